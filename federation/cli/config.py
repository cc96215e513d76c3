"""`fed config`: contexts, the named control planes that `fed` may speak to.

Input: the file of contexts, flags and FED_* variables. Output: the changed file (mode 0600); what
is in force and, with --show-origin, where each value came from.
"""

from dataclasses import asdict
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from federation.cli.lazy import LazyGroup
from federation.cli.options import output_option
from federation.cli.output import Format, put, put_table, put_value
from federation.cli.session import Session, command, pass_session, session_of
from federation.cli.settings import (
    DEFAULT_ENDPOINT,
    ConfigFile,
    Context,
    check_endpoint,
    load_config,
    save_config,
    with_context,
)
from federation.contract.errors import FederationError
from federation.contract.names import check_name

config = LazyGroup(
    "config",
    {
        "get-contexts": (f"{__name__}:get_contexts", "List the contexts."),
        "use-context": (f"{__name__}:use_context", "Make a context the current one."),
        "set-context": (f"{__name__}:set_context", "Create or change a context."),
        "view": (f"{__name__}:view", "Show the settings in force."),
    },
    help="Choose the control plane to speak to.",
    epilog="\b\nExample:\n  fed config set-context lab --endpoint https://10.0.0.5:7480 --use\n"
    "  fed config view --show-origin",
)


def _contexts(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    try:
        names = load_config(session_of(ctx).config_path()).contexts
    except FederationError:
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


@command("get-contexts")
@output_option()
@pass_session
def get_contexts(session: Session, output: Format) -> None:
    """List the contexts; '*' marks the current one.

    \b
    Example:
      fed config get-contexts
    """
    held = load_config(session.config_path())
    if output in (Format.JSON, Format.YAML):
        put_value(asdict(held), output)
    elif output is Format.NAME:
        for name in held.contexts:
            put(name)
    else:
        rows = [
            [
                "*" if name == held.current_context else " ",
                name,
                each.endpoint,
                each.token_file,
                each.ca_file,
            ]
            for name, each in held.contexts.items()
        ]
        put_table(["CURRENT", "NAME", "ENDPOINT", "TOKEN-FILE", "CA-FILE"], rows)


@command("use-context")
@click.argument("name", shell_complete=_contexts)
@pass_session
def use_context(session: Session, name: str) -> None:
    """Make a context the current one.

    \b
    Example:
      fed config use-context lab
    """
    path = session.config_path()
    held = load_config(path)
    held.context(name)
    save_config(path, ConfigFile(current_context=name, contexts=held.contexts))
    put(f"context {name} is the current one")


@command("set-context")
@click.argument("name", shell_complete=_contexts)
@click.option("--endpoint", metavar="URL", help=f"The HTTP API, like {DEFAULT_ENDPOINT}.")
@click.option("--token-file", metavar="FILE", help="File that holds the token.")
@click.option("--ca-file", metavar="FILE", help="File of the control plane's roots.")
@click.option("--use", is_flag=True, help="Make it the current context.")
@pass_session
def set_context(
    session: Session,
    name: str,
    endpoint: str | None,
    token_file: str | None,
    ca_file: str | None,
    use: bool,
) -> None:
    """Create or change a context. An option that is not given stays as it is.

    \b
    Example:
      fed config set-context lab --endpoint https://10.0.0.5:7480 --ca-file ca.pem --use
    """
    check_name("context", name)
    path = session.config_path()
    held = load_config(path)
    old = held.contexts.get(name, Context())
    context = Context(
        endpoint=old.endpoint if endpoint is None else check_endpoint(endpoint),
        token_file=old.token_file if token_file is None else _absolute(token_file),
        ca_file=old.ca_file if ca_file is None else _absolute(ca_file),
    )
    save_config(path, with_context(held, name, context, use=use))
    put(f"context {name} {'changed' if name in held.contexts else 'created'}")


def _absolute(file: str) -> str:
    return str(Path(file).expanduser().absolute()) if file else ""


@command("view")
@click.option("--show-origin", is_flag=True, help="Tell where each value came from.")
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
def view(session: Session, show_origin: bool, output: Format) -> None:
    """Show the settings in force, after flags, environment and context. Tokens are never shown.

    \b
    Example:
      fed config view --show-origin
    """
    settings = asdict(session.settings())
    if output is not Format.TABLE:
        shown = settings if show_origin else {key: each["value"] for key, each in settings.items()}
        put_value(shown, output)
        return
    rows = [[key, each["value"], each["origin"]] for key, each in settings.items()]
    count = 3 if show_origin else 2
    put_table(["SETTING", "VALUE", "ORIGIN"][:count], [row[:count] for row in rows])
