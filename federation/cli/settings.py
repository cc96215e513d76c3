"""Which control plane `fed` speaks to, with which roots and token: flag, environment, context,
default.

Input: flags, FED_* variables and the file of contexts (FED_CONFIG, or fed/config.yaml below
XDG_CONFIG_HOME or ~/.config). Output: Settings, in which every value knows where it came from; the
saved file.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from federation.contract.errors import Invalid, NotFound
from federation.contract.names import did_you_mean

DEFAULT_ENDPOINT = "https://127.0.0.1:7480"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A named control plane, the file with the token for it, and the file of its roots.

    Without roots, those of the machine count.
    """

    endpoint: str = ""
    token_file: str = ""
    ca_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """The content of the file of contexts."""

    current_context: str = ""
    contexts: Mapping[str, Context] = field(default_factory=dict)

    def context(self, name: str) -> Context:
        """Return a context by name; raises NotFound with near misses."""
        if name not in self.contexts:
            raise NotFound(f"there is no context {name!r}.", hint=did_you_mean(name, self.contexts))
        return self.contexts[name]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and, in words, where it came from."""

    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a command needs to reach the control plane."""

    config: Setting
    context: Setting
    endpoint: Setting
    token_file: Setting
    ca_file: Setting


def config_path(environ: Mapping[str, str]) -> Setting:
    """Return where the file of contexts is, or would be."""
    if named := environ.get("FED_CONFIG"):
        return Setting(named, "environment FED_CONFIG")
    if base := environ.get("XDG_CONFIG_HOME"):
        return Setting(str(Path(base, "fed", "config.yaml")), "environment XDG_CONFIG_HOME")
    return Setting(str(Path("~/.config/fed/config.yaml").expanduser()), "default")


def load_config(path: Path) -> ConfigFile:
    """Read the file of contexts, an absent one as empty; raises Invalid with line and remedy."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ConfigFile()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"cannot read {path}: {error}.", hint="Repair it, or set FED_CONFIG."
        ) from None
    if not text.strip():
        return ConfigFile()
    from federation.cli.documents import parse_yaml  # YAML only when there is a file

    documents = parse_yaml(text, source=str(path))
    if len(documents) != 1:
        raise Invalid(f"{path}: expected one YAML document, found {len(documents)}.")
    config: ConfigFile = documents[0].convert(ConfigFile)
    return config


def save_config(path: Path, config: ConfigFile) -> None:
    """Write the file of contexts, readable by its owner only; raises Invalid."""
    import yaml

    from federation.runtime.files import write_atomic

    text = yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
    try:
        write_atomic(path, text.encode(), mode=0o600)
    except OSError as error:
        raise Invalid(f"cannot write {path}: {error.strerror}.", hint="Set FED_CONFIG.") from None


def with_context(config: ConfigFile, name: str, context: Context, *, use: bool) -> ConfigFile:
    """Return `config` with the context set; it becomes the current one if wished or if alone."""
    contexts = {**config.contexts, name: context}
    current = name if use or not config.current_context else config.current_context
    return replace(config, contexts=contexts, current_context=current)


def resolve(flags: Mapping[str, str], environ: Mapping[str, str]) -> Settings:
    """Resolve all settings: flag, then environment, then context, then default."""
    path = config_path(environ)
    config = load_config(Path(path.value))
    named = _first(flags, environ, "context", "FED_CONTEXT") or Setting(
        config.current_context, f"current_context of {path.value}"
    )
    context = config.context(named.value) if named.value else Context()
    origin = f"context {named.value} of {path.value}"
    return Settings(
        config=path,
        context=named if named.value else Setting("", "default"),
        endpoint=_first(flags, environ, "endpoint", "FED_ENDPOINT")
        or (Setting(context.endpoint, origin) if context.endpoint else None)
        or Setting(DEFAULT_ENDPOINT, "default"),
        token_file=_first(flags, environ, "token_file", "FED_TOKEN_FILE")
        or (Setting(context.token_file, origin) if context.token_file else None)
        or Setting("", "default"),
        ca_file=_first(flags, environ, "ca_file", "FED_CA_FILE")
        or (Setting(context.ca_file, origin) if context.ca_file else None)
        or Setting("", "default"),
    )


def _first(
    flags: Mapping[str, str], environ: Mapping[str, str], flag: str, variable: str
) -> Setting | None:
    if value := flags.get(flag):
        return Setting(value, f"flag --{flag.replace('_', '-')}")
    if value := environ.get(variable):
        return Setting(value, f"environment {variable}")
    return None


def without_context(config: ConfigFile, name: str) -> ConfigFile:
    """Return `config` without a context; if it was the current one, there is none then."""
    contexts = {each: held for each, held in config.contexts.items() if each != name}
    current = "" if config.current_context == name else config.current_context
    return replace(config, contexts=contexts, current_context=current)


def check_endpoint(url: str) -> str:
    """Return `url` without a slash at its end if it can be an endpoint; raises Invalid."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or "@" in url or "?" in url or "#" in url:
        raise Invalid(f"{url!r} is no endpoint.", hint=f"It looks like {DEFAULT_ENDPOINT}.")
    return url.rstrip("/")


def read_token(path: str) -> str:
    """Return the token in a file ("-" = stdin, "" = no token); raises Invalid with the remedy."""
    if not path:
        return ""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).expanduser().read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "it is not ASCII text"
        raise Invalid(
            f"cannot read the token file {path}: {words}.",
            hint="Name another with --token-file or FED_TOKEN_FILE.",
        ) from None
    return check_token(text, f"the token file {path}")


def check_token(text: str, source: str) -> str:
    """Return a text without the space around it if it is one token; raises Invalid."""
    token = text.strip()
    if not token.isascii() or not token or any(c.isspace() or not c.isprintable() for c in token):
        raise Invalid(
            f"{source} does not hold one token.",
            hint="Name another with --token-file or FED_TOKEN_FILE.",
        )
    return token
