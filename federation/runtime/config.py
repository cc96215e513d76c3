"""Settings of a role: defaults, then a YAML file, then environment variables, then flags.

Input: a frozen dataclass that declares the settings, and the four sources. Output: an instance and,
for each setting, where its value came from. An unknown key is an error with a suggestion.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from federation.contract.errors import Invalid
from federation.contract.strict_yaml import load_document

T = TypeVar("T")


def setting(default: Any = MISSING, *, help: str) -> Any:
    """Declare one setting; the help text appears in --help."""
    from dataclasses import field

    if default is MISSING:
        return field(metadata={"help": help})
    if isinstance(default, tuple | dict | list):
        return field(default_factory=lambda: default, metadata={"help": help})
    return field(default=default, metadata={"help": help})


def load_settings(
    cls: type[T],
    *,
    prog: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> T:
    """Build `cls` from --config FILE, FED_<NAME> variables and --<name> flags, later ones winning.

    Raises Invalid; `--help` prints all settings and exits.
    """
    environ = os.environ if environ is None else environ
    parser = argparse.ArgumentParser(prog=prog, description=(cls.__doc__ or "").strip())
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these settings")
    hints = get_type_hints(cls)
    for field in fields(cls):  # type: ignore[arg-type]  # T is a dataclass type
        _add_flag(parser, field, hints[field.name])
    flags = vars(parser.parse_args(argv))
    values: dict[str, Any] = {}
    config = flags.pop("config") or environ.get("FED_CONFIG_FILE")
    if config:
        values |= _from_file(Path(config), cls)
    for field in fields(cls):  # type: ignore[arg-type]  # T is a dataclass type
        if (text := environ.get(f"FED_{field.name.upper()}")) is not None:
            values[field.name] = _split(text, hints[field.name])
    values |= {name: value for name, value in flags.items() if value is not None}
    missing = [f.name for f in fields(cls) if f.name not in values and _required(f)]  # type: ignore[arg-type]
    if missing:
        flag = missing[0].replace("_", "-")
        raise Invalid(f"--{flag} is needed.", hint=f"Or set FED_{missing[0].upper()}.")
    try:
        return msgspec.convert(values, cls, strict=False)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`").split("[")[0]
        raise Invalid(f"--{name.replace('_', '-')}: {message}.") from None


def _required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _add_flag(parser: argparse.ArgumentParser, field: "Field[Any]", hint: Any) -> None:
    flag = f"--{field.name.replace('_', '-')}"
    text = str(field.metadata.get("help", "")).replace("%", "%%")
    if hint is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    elif _is_sequence(hint):
        parser.add_argument(flag, action="append", default=None, help=f"{text} (may be repeated)")
    else:
        parser.add_argument(flag, default=None, help=text)


def _is_sequence(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) in (tuple, list)


def _split(text: str, hint: Any) -> Any:
    if _is_sequence(hint):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _from_file(path: Path, cls: type) -> dict[str, Any]:
    try:
        document = load_document(path.read_text(encoding="utf-8"), source=str(path))
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}.") from None
    document.refuse_unknown_keys(cls)
    values: dict[str, Any] = document.value
    return values
