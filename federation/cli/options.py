"""The option and argument types that several commands share, with live completion of names.

Input: words of the command line. Output: checked values; a bad word is a usage error (exit code 2)
that says what is allowed. Completion asks the control plane for at most a second, and never fails.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from federation.cli.output import Format
from federation.cli.session import session_of
from federation.contract.errors import FederationError
from federation.contract.names import did_you_mean
from federation.contract.resources import KINDS, Kind, kind_of

F = TypeVar("F", bound=Callable[..., Any])
_COMPLETION_TIMEOUT_S = 0.5  # connecting and answering may each take this long


@dataclass(frozen=True, slots=True)
class Target:
    """A kind, and a name if it was given with it as `cluster/eu-west`."""

    kind: Kind
    name: str

    def named(self, name: str | None) -> str:
        """Return the name that was given in either way, or ""."""
        if self.name and name:
            raise click.UsageError(f"two names: {self.name!r} and {name!r}.")
        return self.name or name or ""

    def required(self, name: str | None) -> str:
        """Return the name that was given in either way; raises UsageError without one."""
        if found := self.named(name):
            return found
        raise click.UsageError(f"which {self.kind.name.lower()}? Name it.")


class TargetType(click.ParamType[Target]):
    """KIND or KIND/NAME; the kind may be singular, plural or short."""

    name = "kind"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Target:
        """Return the Target that a word means."""
        if isinstance(value, Target):
            return value
        word, _, name = str(value).partition("/")
        kind = kind_of(word)
        if kind is None:
            known = [text for k in KINDS for text in (k.plural, k.name.lower(), *k.short)]
            near = did_you_mean(word.lower(), known)
            if near.startswith("There are"):
                near = f"There are: {', '.join(k.plural for k in KINDS)}."
            raise click.UsageError(f"unknown kind {word!r}. {near}", ctx)
        return Target(kind, name)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the plural names."""
        return [CompletionItem(k.plural) for k in KINDS if k.plural.startswith(incomplete.lower())]


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


class DurationType(click.ParamType[float]):
    """A length of time: 90, 90s, 2m, 1h, 7d; in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.fullmatch(str(value).strip())
        if not match:
            self.fail(f"{value!r} is no length of time; write 90s, 2m, 1h or 7d.", param, ctx)
        return float(match[1]) * _UNIT_S[match[2]]


class LabelType(click.ParamType[tuple[str, str]]):
    """KEY=VALUE."""

    name = "key=value"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return key and value."""
        if isinstance(value, tuple):
            return value[0], value[1]
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is no label; write KEY=VALUE.", param, ctx)
        return key, text


class ListType(click.ParamType[tuple[str, ...]]):
    """Comma-separated words; an empty text is the empty list."""

    name = "a,b,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the words."""
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in str(value).split(",") if word.strip())


class NumbersType(click.ParamType[tuple[int, ...]]):
    """Comma-separated version numbers."""

    name = "1,2,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",") if word.strip()]
        if not all(word.isdecimal() and int(word) > 0 for word in words):
            self.fail(f"{value!r} are no version numbers; write 1,2.", param, ctx)
        return tuple(int(word) for word in words)


# ------------------------------------------------------------ completion of live names


def live_names(ctx: click.Context, plural: str, incomplete: str) -> list[CompletionItem]:
    """Return the names of existing objects that start with `incomplete`; nothing on any failure."""
    from federation.cli.documents import look_list, name_of

    try:
        with session_of(ctx).client(timeout_s=_COMPLETION_TIMEOUT_S) as client:
            items = look_list(client.get("api", "v1", plural), "items")
    except FederationError:
        return []
    names = sorted(name_of(item) for item in items)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def names_of_target(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete NAME after KIND."""
    target = ctx.params.get("target")
    return live_names(ctx, target.kind.plural, incomplete) if isinstance(target, Target) else []


def names_of(
    plural: str,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a completion of the names of one kind."""
    return lambda ctx, _param, incomplete: live_names(ctx, plural, incomplete)


# ------------------------------------------------------------ shared options


def output_option(*, formats: tuple[Format, ...] = tuple(Format)) -> Callable[[F], F]:
    """Declare `-o`, passed as `output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice([f.value for f in formats]),
        default=Format.TABLE.value,
        show_default=True,
        callback=lambda _ctx, _param, value: Format(value),
        help="How to print the answer.",
    )


def watch_option(function: F) -> F:
    """Declare `-w`, passed as `watch`."""
    declare: Callable[[F], F] = click.option(
        "-w",
        "--watch",
        is_flag=True,
        help="Keep watching; JSON then has one {type, object} a line.",
    )
    return declare(function)


def dry_run_option(function: F) -> F:
    """Declare `--dry-run` (the same as `--dry-run=server`), passed as `dry_run`, a bool."""
    declare: Callable[[F], F] = click.option(
        "--dry-run", is_flag=True, help="Let the control plane check it, and change nothing."
    )
    return declare(function)


def wait_options(function: F) -> F:
    """Declare `--wait` and `--timeout`, passed as `wait` and `timeout`."""
    timeout: Callable[[F], F] = click.option(
        "--timeout",
        type=DurationType(),
        default="5m",
        show_default=True,
        help="How long --wait waits.",
    )
    wait: Callable[[F], F] = click.option(
        "--wait", is_flag=True, help="Wait until it is done; exit code 7 if it is not in time."
    )
    return wait(timeout(function))
