"""`fed rollout pause|resume|promote|approve|abort`: a person intervenes.

Input: a rollout's name, or a model's (then: the one that goes on). Output: a POST; the rollout as
it stands then.
"""

import click

from federation.cli.documents import Json, look
from federation.cli.options import dry_run_option, output_option
from federation.cli.output import Format
from federation.cli.rollout_find import KIND, complete
from federation.cli.rollout_start import WHY, report
from federation.cli.session import Session, command, pass_session

_ROLLOUT = click.argument("name", metavar="NAME|MODEL", shell_complete=complete)


@command("pause")
@_ROLLOUT
@WHY
@dry_run_option
@output_option()
@pass_session
def pause(session: Session, name: str, why: str, dry_run: bool, output: Format) -> None:
    """Stop a rollout where it is. The shares of traffic stay as they are.

    \b
    Example:
      fed rollout pause shakespeare --why "let me look at this first"
    """
    _steer(session, "pause", name, {"why": why}, dry_run, output)


@command("resume")
@_ROLLOUT
@WHY
@dry_run_option
@output_option()
@pass_session
def resume(session: Session, name: str, why: str, dry_run: bool, output: Format) -> None:
    """Let a paused rollout go on where it was.

    \b
    Example:
      fed rollout resume shakespeare
    """
    _steer(session, "resume", name, {"why": why}, dry_run, output)


@command("promote")
@_ROLLOUT
@click.option("--full", is_flag=True, help="Skip all steps and waves that are left.")
@WHY
@dry_run_option
@output_option()
@pass_session
def promote(
    session: Session,
    name: str,
    full: bool,
    why: str,
    dry_run: bool,
    output: Format,
) -> None:
    """Skip what is left of this step: its time and its analysis.

    Nothing gets traffic before it is warm, also with --full.

    \b
    Example:
      fed rollout promote shakespeare
      fed rollout promote shakespeare --full --why "it is a hotfix"
    """
    _steer(session, "promote", name, {"why": why, "full": full}, dry_run, output)


@command("approve")
@_ROLLOUT
@WHY
@dry_run_option
@output_option()
@pass_session
def approve(session: Session, name: str, why: str, dry_run: bool, output: Format) -> None:
    """Let the wave begin that waits for an approval (see `fed rollout start --gate`).

    \b
    Example:
      fed rollout approve shakespeare --why "eu-west looked good over the weekend"
    """
    _steer(session, "approve", name, {"why": why}, dry_run, output)


@command("abort")
@_ROLLOUT
@WHY
@dry_run_option
@output_option()
@pass_session
def abort(session: Session, name: str, why: str, dry_run: bool, output: Format) -> None:
    """Send all traffic back to the old version, at once; it is still loaded.

    Then the new version is unloaded, and is not rolled out by itself again. `fed rollout start`
    begins anew.

    \b
    Example:
      fed rollout abort shakespeare --why "it speaks in limericks"
    """
    _steer(session, "abort", name, {"why": why}, dry_run, output)


_DONE = {
    "pause": "paused",
    "resume": "goes on",
    "promote": "promoted a step further",
    "approve": "approved",
    "abort": "goes back",
}


def _steer(
    session: Session, verb: str, name: str, content: Json, dry_run: bool, output: Format
) -> None:
    with session.client() as client:
        query = {"dryRun": "true"} if dry_run else {}
        path = ("api", "v1", KIND.plural, name, verb)
        document = client.send("POST", *path, content=content, **query)
    done = "promoted to the end" if content.get("full") else _DONE[verb]
    if verb == "abort" and look(document, "status", "over"):
        done = "is over"
    report(document, f"{done} (server dry run)" if dry_run else done, output)
