"""`fed router`: which routers are in the federation.

Input: names. Output: calls of the operator API; for a registration, the one command that starts the
router. Accepting and revoking are in `members`.
"""

import click

from federation.cli.delete import YES, remove
from federation.cli.inviting import TicketOptions, invite, ticket_options
from federation.cli.join import router_command
from federation.cli.lazy import LazyGroup
from federation.cli.options import names_of
from federation.cli.session import Session, command, pass_session
from federation.contract.names import check_name
from federation.contract.resources import KINDS

_KIND = next(kind for kind in KINDS if kind.plural == "routers")

router = LazyGroup(
    "router",
    {
        "register": (f"{__name__}:register", "Register a router and print how to start it."),
        "accept": ("federation.cli.members:accept_router", "Let a router in that waits for it."),
        "revoke": ("federation.cli.members:revoke_router", "Refuse a router from now on."),
        "remove": (f"{__name__}:remove_router", "Remove a router from the federation."),
    },
    help="Register, accept, revoke or remove routers.",
    epilog="\b\nExample:\n  fed router register pop-1\n  fed get routers",
)


@command("register")
@click.argument("name")
@click.option("--description", default="", help="What people should know of it.")
@ticket_options("router")
@pass_session
def register(session: Session, name: str, description: str, ticket: TicketOptions) -> None:
    """Register a router and print the one command that starts it.

    The join token is shown once: it can be used once, and for a limited time.

    \b
    Example:
      fed router register pop-1
      fed router register pop-1 --rejoin --token-file pop-1.token
    """
    check_name("router", name)
    with session.client() as client:
        spec = {"description": description}
        invite(client, (_KIND, name), spec, ticket, lambda it: router_command(name, it))


@command("remove")
@click.argument("name", shell_complete=names_of("routers"))
@YES
@pass_session
def remove_router(session: Session, name: str, yes: bool) -> None:
    """Remove a router from the federation. On a terminal you are asked to type its name.

    \b
    Example:
      fed router remove pop-1 --yes
    """
    remove(session, _KIND, name, yes=yes)
