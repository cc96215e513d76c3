"""Accepting and revoking the members of the federation: clusters and routers alike.

Input: names. Output: calls of the operator API, and one line.
"""

import sys

import click

from federation.cli.delete import YES
from federation.cli.documents import title
from federation.cli.options import names_of
from federation.cli.output import note, put
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import Invalid
from federation.contract.resources import KINDS, Kind

_CLUSTERS = next(kind for kind in KINDS if kind.plural == "clusters")
_ROUTERS = next(kind for kind in KINDS if kind.plural == "routers")


@command("accept")
@click.argument("name", shell_complete=names_of("clusters"))
@pass_session
def accept_cluster(session: Session, name: str) -> None:
    """Let a cluster in that joined with a token which demands it (--require-accept).

    \b
    Example:
      fed get cluster edge-7 -o yaml     # waiting_key_sha256 is what its agent logs
      fed cluster accept edge-7
    """
    _accept(session, _CLUSTERS, name)


@command("revoke")
@click.argument("name", shell_complete=names_of("clusters"))
@YES
@pass_session
def revoke_cluster(session: Session, name: str, yes: bool) -> None:
    """Refuse a cluster everywhere from now on: its certificate, its streams, its traffic.

    It stays registered, and its engine is not told. `fed cluster register NAME --rejoin` lets it
    in again.

    \b
    Example:
      fed cluster revoke edge-7 --yes
    """
    _revoke(session, _CLUSTERS, name, yes=yes)


@command("accept")
@click.argument("name", shell_complete=names_of("routers"))
@pass_session
def accept_router(session: Session, name: str) -> None:
    """Let a router in that joined with a token which demands it (--require-accept).

    \b
    Example:
      fed router accept pop-1
    """
    _accept(session, _ROUTERS, name)


@command("revoke")
@click.argument("name", shell_complete=names_of("routers"))
@YES
@pass_session
def revoke_router(session: Session, name: str, yes: bool) -> None:
    """Refuse a router everywhere from now on: its certificate, its stream, its requests.

    It stays registered. `fed router register NAME --rejoin` lets it in again.

    \b
    Example:
      fed router revoke pop-1 --yes
    """
    _revoke(session, _ROUTERS, name, yes=yes)


def _accept(session: Session, kind: Kind, name: str) -> None:
    with session.client() as client:
        client.send("POST", "api", "v1", kind.plural, name, "accept")
    put(f"{title(kind, name)} accepted")


def _revoke(session: Session, kind: Kind, name: str, *, yes: bool) -> None:
    if not yes and sys.stdin.isatty():
        typed: str = click.prompt(
            f"This takes the membership of {title(kind, name)} away. Type its name to go on",
            err=True,
            default="",
            show_default=False,
        )
        if typed != name:
            raise Invalid(f"{typed!r} is not {name!r}: nothing was revoked.")
    with session.client() as client:
        client.send("POST", "api", "v1", kind.plural, name, "revoke")
    put(f"{title(kind, name)} revoked")
    note(f"To let it in again: fed {kind.name.lower()} register {name} --rejoin")
