"""`fed rollout get|status|history`: how rollouts stand, and how they came to be there.

Input: a rollout's name, or a model's; the operator API. Output: a table, a tree, documents; the
exit code of `status` is its answer.
"""

from collections.abc import Iterator
from datetime import datetime

import click

from federation.cli.cells import duration, parse_time, shown
from federation.cli.documents import Json, look, look_list, name_of
from federation.cli.exits import ExitCode
from federation.cli.get import show
from federation.cli.options import DurationType, output_option, watch_option
from federation.cli.output import Format, put, put_table, put_value
from federation.cli.rollout_find import KIND, all_rollouts, complete, find_rollout
from federation.cli.rollout_follow import follow, show_tree
from federation.cli.rollout_tree import headline
from federation.cli.rollout_wait import WAITING, check_end, wait_until_over
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import Invalid, NotFound
from federation.runtime.clock import SystemClock


@command("get")
@click.argument("name", metavar="[NAME|MODEL]", required=False, shell_complete=complete)
@output_option()
@watch_option
@pass_session
def get(session: Session, name: str | None, output: Format, watch: bool) -> None:
    """Show one rollout as a tree, or list all.

    The tree tells waves, regions and clusters: how far the new version's bytes are, its share of
    the traffic, the verdict so far, what happens next, and the command to intervene. With -w it is
    drawn anew until the rollout is over.

    \b
    Example:
      fed rollout get
      fed rollout get shakespeare -w
      fed rollout get shakespeare-2 -o yaml
    """
    if name is None:
        show(session, KIND, "", output, watch=watch)
        return
    if watch and output is Format.YAML:
        raise Invalid("--watch cannot print YAML.", hint="Use -o json: one object a line.")
    with session.client() as client:
        document = find_rollout(client, name)
        found = name_of(document)
        if watch:
            follow(lambda: client.get("api", "v1", KIND.plural, found), output)
        elif output in (Format.JSON, Format.YAML):
            put_value(document, output)
        elif output is Format.NAME:
            put(f"rollout/{found}")
        else:
            show_tree(document)


@command("status")
@click.argument("name", metavar="NAME|MODEL", shell_complete=complete)
@WAITING
@click.option("--timeout", type=DurationType(), default="1h", show_default=True, help="Of --wait.")
@click.pass_context
@pass_session
def status(session: Session, ctx: click.Context, name: str, wait: bool, timeout: float) -> None:
    """Tell in one line where a rollout stands; the exit code says it to scripts.

    \b
    Exit codes:
      0  promoted: the new version serves everywhere
      1  rolled back, or failed
      7  it still goes on (with --wait: when --timeout was over)

    \b
    Example:
      fed rollout status shakespeare
      fed rollout status shakespeare --wait --timeout 30m
    """
    with session.client() as client:
        document = find_rollout(client, name)
        found = name_of(document)
        if wait:
            document = wait_until_over(client, found, timeout_s=timeout)
    put(f"rollout/{found} {headline(document)}")
    if look(document, "status", "over"):
        check_end(document, found)
    else:
        ctx.exit(ExitCode.WAIT_NOT_MET)


_TITLES = ("NAME", "MODEL", "FROM", "TO", "PHASE", "STARTED", "TOOK", "BY", "WHY", "REASON")
_PASSAGES = ("AT", "EVENT", "FROM", "TO", "WAVE", "STEP", "ACTOR", "REASON")


@command("history")
@click.argument("name", metavar="[NAME|MODEL]", required=False, shell_complete=complete)
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML, Format.NAME))
@pass_session
def history(session: Session, name: str | None, output: Format) -> None:
    """Show the rollouts of a model, newest first, or all that happened to one rollout.

    \b
    Example:
      fed rollout history
      fed rollout history shakespeare
      fed rollout history shakespeare-2
    """
    with session.client() as client:
        items = all_rollouts(client)
    mine = [each for each in items if name in (None, look(each, "spec", "model"))]
    one = next((each for each in items if name_of(each) == name), None)
    if one is not None:
        mine = [one]
    if name is not None and not mine:
        raise NotFound(
            f"there is no rollout {name!r}, and none of a model of that name.",
            hint="See: fed rollout history",
        )
    mine.sort(key=lambda each: str(look(each, "metadata", "createdAt") or ""), reverse=True)
    if output in (Format.JSON, Format.YAML):
        put_value(one if one is not None else {"items": mine}, output)
    elif output is Format.NAME:
        for each in mine:
            put(f"rollout/{name_of(each)}")
    elif one is not None:
        put_table(_PASSAGES, _passages(one))
    elif mine:
        now = SystemClock().utc()
        put_table(_TITLES, [_row(each, now) for each in mine])
    else:
        click.echo("There are no rollouts yet.", err=True)


def _row(document: Json, now: datetime) -> list[str]:
    begun = parse_time(look(document, "metadata", "createdAt"))
    ended = parse_time(look(document, "status", "ended_at"))
    return [
        name_of(document),
        shown(look(document, "spec", "model")),
        shown(look(document, "status", "stable")),
        shown(look(document, "status", "canary")),
        shown(look(document, "status", "phase")),
        begun.strftime("%Y-%m-%d %H:%M") if begun else "",
        duration(((ended or now) - begun).total_seconds()) if begun else "",
        shown(look(document, "status", "started_by")),
        shown(look(document, "status", "why")),
        shown(look(document, "status", "reason") or look(document, "status", "verdict", "words")),
    ]


def _passages(document: Json) -> Iterator[list[str]]:
    for each in look_list(document, "status", "history"):
        at = parse_time(look(each, "at"))
        yield [
            at.strftime("%Y-%m-%d %H:%M:%S") if at else "",
            *(shown(look(each, key)) for key in ("event", "was", "now", "wave", "step", "actor")),
            shown(look(each, "reason")),
        ]
