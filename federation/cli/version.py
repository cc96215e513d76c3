"""`fed version`: which fed this is, and which control plane it speaks to.

Input: the installed package; the control plane's OpenAPI document. Output: two lines; a control
plane that cannot be reached is told on stderr and is no failure.
"""

from federation.cli.documents import look
from federation.cli.options import output_option
from federation.cli.output import Format, note, put, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import FederationError
from federation.runtime.version import software_version

_TIMEOUT_S = 2.0


@command("version")
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
def version(session: Session, output: Format) -> None:
    """Show the version of fed and of the control plane.

    \b
    Example:
      fed version
    """
    versions = {"fed": software_version()}
    try:
        with session.client(timeout_s=_TIMEOUT_S) as client:
            told = look(client.get("openapi.json"), "info", "version")
            versions["control-plane"] = str(told or "unknown")
    except FederationError as error:
        note(error.sentence())
    if output is Format.TABLE:
        for name, value in versions.items():
            put(f"{name} {value}")
    else:
        put_value(versions, output)
