"""`fed events`: what happened, in the order in which it did.

Input: the list of events of the operator API, and its watch. Output: a table or documents.
"""

from federation.cli.get import show
from federation.cli.options import output_option, watch_option
from federation.cli.output import Format
from federation.cli.session import Session, command, pass_session
from federation.contract.resources import KINDS

_KIND = next(kind for kind in KINDS if kind.plural == "events")


@command("events")
@output_option()
@watch_option
@pass_session
def events(session: Session, output: Format, watch: bool) -> None:
    """Show what happened: who did what to which object, and why.

    \b
    Example:
      fed events
      fed events -w
    """
    show(session, _KIND, "", output, watch=watch)
