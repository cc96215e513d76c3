"""What one run of `fed` knows: the global flags, and the client that they lead to.

Input: the global options, wherever on the command line they stand. Output: Session, which commands
take with `@pass_session`; it opens the client and never prints a token.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from federation.cli.client import ApiClient
    from federation.cli.settings import Settings
    from federation.cli.tls import Roots

C = TypeVar("C", bound=Callable[..., Any])


class Session:
    """The global flags of one run."""

    def __init__(self) -> None:
        self.flags: dict[str, str] = {}
        self.debug = False

    def __repr__(self) -> str:
        return f"Session({self.flags}, debug={self.debug})"

    def settings(self) -> "Settings":
        """Resolve the settings; raises Invalid or NotFound."""
        from federation.cli.settings import resolve

        return resolve(self.flags, os.environ)

    def config_path(self) -> Path:
        """Return the path of the file of contexts."""
        from federation.cli.settings import config_path

        return Path(config_path(os.environ).value)

    def roots(self) -> "Roots | None":
        """Return the roots that the control plane must be below; raises Invalid."""
        from federation.cli.tls import read_roots

        return read_roots(self.settings().ca_file.value)

    def client(self, *, timeout_s: float = 30.0) -> "ApiClient":
        """Return a client of the control plane; raises Invalid or NotFound."""
        from federation.cli.client import ApiClient
        from federation.cli.settings import check_endpoint, read_token
        from federation.cli.tls import read_roots

        settings = self.settings()
        endpoint = check_endpoint(settings.endpoint.value)
        token = read_token(settings.token_file.value)
        roots = read_roots(settings.ca_file.value)
        return ApiClient(endpoint, token=token, roots=roots, timeout_s=timeout_s)


def session_of(ctx: click.Context) -> Session:
    """Return the session of a run."""
    return ctx.find_root().ensure_object(Session)


pass_session = click.make_pass_decorator(Session, ensure=True)


# ------------------------------------------------------------ global options


def _keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name:
        session_of(ctx).flags[param.name] = value


def _debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        session_of(ctx).debug = True


def global_options(*, hidden: bool) -> list[click.Parameter]:
    """Return the options that every command understands; only the root shows them."""
    shared: dict[str, Any] = {"expose_value": False, "hidden": hidden}
    return [
        click.Option(
            ["--endpoint"],
            metavar="URL",
            callback=_keep,
            help="The control plane's HTTP API (FED_ENDPOINT).  [default: https://127.0.0.1:7480]",
            **shared,
        ),
        click.Option(
            ["--ca-file"],
            metavar="FILE",
            callback=_keep,
            help="File of the control plane's roots (FED_CA_FILE); `fed login` keeps one.",
            **shared,
        ),
        click.Option(
            ["--token-file"],
            metavar="FILE",
            callback=_keep,
            help="File that holds your token, '-' for stdin (FED_TOKEN_FILE).",
            **shared,
        ),
        click.Option(
            ["--context"],
            metavar="NAME",
            callback=_keep,
            help="Context of the config file to use (FED_CONTEXT).",
            **shared,
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            callback=_debug,
            help="Show the traceback of an error.",
            **shared,
        ),
    ]


class FedCommand(click.Command):
    """A command that understands the global options behind its own name, too."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, **settings)
        taken = {text for param in self.params for text in param.opts}
        self.params += [p for p in global_options(hidden=True) if not taken & set(p.opts)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `--dry-run=server`, as kubectl writes it, for `--dry-run`."""
        words = args.index("--") if "--" in args else len(args)
        said = ["--dry-run" if arg == "--dry-run=server" else arg for arg in args[:words]]
        return super().parse_args(ctx, [*said, *args[words:]])


def command(name: str) -> Callable[[Callable[..., None]], FedCommand]:
    """Declare a command of `fed`."""
    return click.command(name, cls=FedCommand)
