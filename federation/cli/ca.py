"""`fed ca`: the roots that all certificates of the federation hang on.

Input: nothing but the order. Output: the roots with their phases and pins.
"""

from federation.cli.documents import Json, look_list
from federation.cli.lazy import LazyGroup
from federation.cli.options import output_option
from federation.cli.output import Format, note, put, put_table, put_value
from federation.cli.session import Session, command, pass_session

ca = LazyGroup(
    "ca",
    {
        "get": (f"{__name__}:get", "Show the roots: their phases and pins."),
        "pin": (f"{__name__}:pin", "Print the pin by which newcomers know the control plane."),
        "rotate": (f"{__name__}:rotate", "Make a new root; everybody moves to it by itself."),
    },
    help="Show and rotate the federation's certificate authority.",
    epilog="\b\nExample:\n  fed ca get\n  fed ca rotate",
)

_OUTPUT = output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
_TITLES = ("NAME", "PHASE", "SINCE", "UNTIL", "PIN")


@command("get")
@_OUTPUT
@pass_session
def get(session: Session, output: Format) -> None:
    """Show the roots: their phases, until when, and the pins by which newcomers know them.

    \b
    Phases: prepared (trusted, signs nothing yet), active (signs), retiring (trusted, signs
    nothing), retired (only knows whose expired certificate asks for renewal).

    \b
    Example:
      fed ca get
    """
    with session.client() as client:
        _show(client.get("api", "v1", "ca"), output)


@command("pin")
@pass_session
def pin(session: Session) -> None:
    """Print the pin of the root that signs now, for --ca-pin.

    \b
    Example:
      fed ca pin
    """
    with session.client() as client:
        put(str(client.get("api", "v1", "ca").get("pin") or ""))


@command("rotate")
@_OUTPUT
@pass_session
def rotate(session: Session, output: Format) -> None:
    """Make a new root. It signs once everybody in contact could learn of it (one certificate's
    life); the old one goes as long after that. Nothing is interrupted, and nobody joins anew.

    \b
    Example:
      fed ca rotate
    """
    with session.client() as client:
        answer = client.send("POST", "api", "v1", "ca", "rotate")
    _show(answer, output)
    if output is Format.TABLE:
        note("Who is out of contact until the new root signs has to join anew afterwards.")


def _show(document: Json, output: Format) -> None:
    if output is not Format.TABLE:
        put_value(document, output)
        return
    rows = [
        [str(root.get(key) or "") for key in ("name", "phase", "since", "until", "pin")]
        for root in look_list(document, "roots")
    ]
    put_table(_TITLES, rows)
