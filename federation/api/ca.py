"""The certificate authority, for operators: its roots, and the order to make a new one.

Input: operators. Output: what `federation.identity.rollover` keeps; the news that a root was made,
for the control loop.
"""

from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from federation.api.bodies import reply
from federation.api.origin import origin_of
from federation.api.route import Route, actor, needs
from federation.contract.errors import Conflict
from federation.control_loop import ControlLoop
from federation.identity.rollover import Rollover, RootView
from federation.policy.access.roles import Verb
from federation.policy.membership.events import RootPrepared
from federation.policy.roots import RootPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class RootDocument:
    """A root. `until` is when it moves on to its next phase by itself, `notAfter` when its
    certificate ends."""

    name: str
    phase: RootPhase
    pin: str
    since: datetime
    until: datetime | None
    notAfter: datetime  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityDocument:
    """The authority: `pin` is that of the root that signs now."""

    trustDomain: str  # noqa: N815
    pin: str
    roots: tuple[RootDocument, ...]


class CertificateAuthority:
    """The handlers of /api/v1/ca."""

    def __init__(self, loop: ControlLoop, rollover: Rollover, *, trust_domain: str) -> None:
        self._loop = loop
        self._rollover = rollover
        self._trust_domain = trust_domain

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="GET",
                path="/api/v1/ca",
                summary="Show the roots of the certificate authority",
                handler=self._get,
                needs=needs(Verb.READ, "Authority", ""),
                answer=AuthorityDocument,
            ),
            Route(
                method="POST",
                path="/api/v1/ca/rotate",
                summary="Make a new root; it signs once everyone had time to learn of it",
                handler=self._rotate,
                needs=needs(Verb.ROTATE, "Authority", ""),
                answer=AuthorityDocument,
                errors=(Conflict,),
            ),
        ]

    async def _get(self, _: web.Request) -> web.Response:
        return reply(self._document())

    async def _rotate(self, request: web.Request) -> web.Response:
        name = self._rollover.rotate()
        event = RootPrepared(actor=actor(request), name=name)
        await self._loop.submit(event, origin=origin_of(request))
        return reply(self._document())

    def _document(self) -> AuthorityDocument:
        return AuthorityDocument(
            trustDomain=self._trust_domain,
            pin=self._rollover.active_pin,
            roots=tuple(_root(view) for view in self._rollover.views()),
        )


def _root(view: RootView) -> RootDocument:
    return RootDocument(
        name=view.name,
        phase=view.phase,
        pin=view.pin,
        since=view.since,
        until=view.until,
        notAfter=view.not_after,
    )
