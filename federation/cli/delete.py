"""`fed delete`, and the question that a person is asked before something is lost.

Input: KIND and NAME. Output: a DELETE, and one line.
"""

import sys

import click

from federation.cli.documents import title
from federation.cli.options import Target, TargetType, dry_run_option, names_of_target
from federation.cli.output import put
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import Invalid, NotFound
from federation.contract.resources import Kind

_REMOVABLE = ("Key", "Router")  # what people remove although they cannot write it
YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


@command("delete")
@click.argument("target", metavar="KIND", type=TargetType())
@click.argument("name", required=False, shell_complete=names_of_target)
@click.option("--ignore-not-found", is_flag=True, help="Succeed if it does not exist.")
@dry_run_option
@YES
@pass_session
def delete(
    session: Session,
    target: Target,
    name: str | None,
    ignore_not_found: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete an object. On a terminal you are asked to type its name.

    \b
    Example:
      fed delete deployment filetype
      fed delete region/eu-west --yes
    """
    try:
        remove(session, target.kind, target.required(name), yes=yes, dry_run=dry_run)
    except NotFound:
        if not ignore_not_found:
            raise


def remove(
    session: Session,
    kind: Kind,
    name: str,
    *,
    yes: bool,
    dry_run: bool = False,
    done: str = "deleted",
) -> None:
    """Delete one object, after a person agreed; `done` says it in the words of the command."""
    if kind.spec is None and kind.name not in _REMOVABLE:
        raise Invalid(f"a {kind.name} cannot be deleted: the system makes it.")
    if not yes and not dry_run and sys.stdin.isatty():
        typed: str = click.prompt(
            f"This deletes {title(kind, name)}. Type its name to go on",
            err=True,
            default="",
            show_default=False,
        )
        if typed != name:
            raise Invalid(f"{typed!r} is not {name!r}: nothing was deleted.")
    with session.client() as client:
        query = {"dryRun": "true"} if dry_run else {}
        client.send("DELETE", "api", "v1", kind.plural, name, content=None, **query)
    put(f"{title(kind, name)} {done}{' (server dry run)' if dry_run else ''}")
