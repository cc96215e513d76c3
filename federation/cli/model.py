"""`fed model`: push versions, list models, move aliases.

Input: a package directory; names. Output: blobs and a version for the control plane, aliases; one
line per act on stdout.
"""

from pathlib import Path

import click

from federation.cli.get import show
from federation.cli.lazy import LazyGroup
from federation.cli.options import names_of, output_option, watch_option
from federation.cli.output import Format, put, put_value
from federation.cli.push import push_package, read_package
from federation.cli.session import Session, command, pass_session
from federation.contract.names import check_model_name, check_name
from federation.contract.resources import KINDS

_KIND = next(kind for kind in KINDS if kind.plural == "models")

model = LazyGroup(
    "model",
    {
        "push": (f"{__name__}:push", "Push a package as the next version of its model."),
        "list": (f"{__name__}:list_models", "List the models."),
        "alias": (f"{__name__}:alias", "Move or remove an alias of a model."),
    },
    help="Push model versions, list models, move aliases.",
    epilog="\b\nExample:\n  fed model push ./filetype\n  fed model alias filetype champion 2",
)


@command("push")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--name", help="Push it under this name instead of the one in model.yaml.")
@output_option()
@pass_session
def push(session: Session, directory: Path, name: str | None, output: Format) -> None:
    """Push a package as the next version of its model. The same content again is the same version.

    DIRECTORY holds model.yaml and the files of the model. Only files that the control plane lacks
    are sent.

    \b
    Example:
      fed model push ./filetype
      fed model push ./filetype --name filetype-test
    """
    with read_package(directory, name) as package, session.client() as client:
        answer = push_package(client, package)
    if output in (Format.JSON, Format.YAML):
        put_value(answer, output)
    elif output is Format.NAME:
        put(f"model/{answer['model']}")
    else:
        outcome = "created" if answer.get("created") else "exists"
        digest = str(answer["digest"])[:12]
        put(f"model/{answer['model']} version {answer['version']} (digest {digest}) {outcome}")


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
