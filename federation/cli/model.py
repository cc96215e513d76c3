"""`fed model`: the table of its commands; listing models, moving aliases.

Input: names. Output: aliases at the control plane; one line per act on stdout.
"""

import click

from federation.cli.get import show
from federation.cli.lazy import LazyGroup
from federation.cli.options import names_of, output_option, watch_option
from federation.cli.output import Format, put
from federation.cli.session import Session, command, pass_session
from federation.contract.names import check_model_name, check_name
from federation.contract.resources import KINDS

_KIND = next(kind for kind in KINDS if kind.plural == "models")

model = LazyGroup(
    "model",
    {
        "push": (f"{__name__}_push:push", "Push a package as the next version of its model."),
        "pull": (f"{__name__}_pull:pull", "Fetch a version into a directory, and check it."),
        "list": (f"{__name__}:list_models", "List the models."),
        "alias": (f"{__name__}:alias", "Move or remove an alias of a model."),
        "diff": (f"{__name__}_diff:diff", "Tell what changed, and what would travel where."),
        "verify": (f"{__name__}_store:verify", "Check every byte of a version in the store."),
        "gc": (f"{__name__}_store:gc", "Remove from the store what no version needs."),
        "keygen": (f"{__name__}_push:keygen", "Make a key for signing releases."),
    },
    help="Push, pull, compare and verify model versions; list models, move aliases.",
    epilog="\b\nExample:\n  fed model push ./filetype\n  fed model alias filetype champion 2",
)


@command("list")
@output_option()
@watch_option
@pass_session
def list_models(session: Session, output: Format, watch: bool) -> None:
    """List the models.

    \b
    Example:
      fed model list
    """
    show(session, _KIND, "", output, watch=watch)


@command("alias")
@click.argument("model_name", metavar="MODEL", shell_complete=names_of("models"))
@click.argument("alias_name", metavar="ALIAS")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--remove", "removing", is_flag=True, help="Remove the alias.")
@pass_session
def alias(
    session: Session, model_name: str, alias_name: str, version: int | None, removing: bool
) -> None:
    """Move or remove an alias of a model: a name that stands for one of its versions.

    \b
    Example:
      fed model alias filetype champion 2
      fed model alias filetype champion --remove
    """
    if removing == (version is not None):
        raise click.UsageError("give either a VERSION or --remove.")
    check_model_name(model_name)
    check_name("alias", alias_name)
    path = ("api", "v1", "models", model_name, "aliases", alias_name)
    with session.client() as client:
        if removing:
            client.send("DELETE", *path)
        else:
            client.send("PUT", *path, content={"version": version})
    told = "removed" if removing else f"is version {version}"
    put(f"model/{model_name} alias {alias_name} {told}")
