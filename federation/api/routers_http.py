"""Router verbs: register, accept, revoke; and removing one.

Input: operators. Output: events for the control loop; for a registration also the one-time join
token. The routers' own streams are in `routers`.
"""

from dataclasses import dataclass, field
from datetime import datetime

from aiohttp import web

from federation.api.bodies import converted, idempotency, read_document, reply
from federation.api.documents import Metadata, Router
from federation.api.resources import Removed, Submitter
from federation.api.route import Route, actor, caller_of, flag, needs
from federation.api.tickets import Ticket, Tickets
from federation.api.watch import revision_asked_for
from federation.contract.errors import AlreadyExists, Conflict, Invalid, NotFound
from federation.contract.names import check_name
from federation.contract.resources import API_VERSION, RouterSpec
from federation.contract.spiffe import PeerRole
from federation.policy.access.roles import Verb
from federation.policy.events import ObjectRemoved
from federation.policy.membership.events import RouterRegistered


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterRegistration:
    """A router to register. `rejoin` lets a known router join anew; with `requireAccept`, who
    joins gets no certificate before an operator accepts it."""

    spec: RouterSpec = field(default_factory=RouterSpec)
    rejoin: bool = False
    requireAccept: bool = False  # noqa: N815
    tokenTtlSeconds: int = 3600  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredRouter:
    """The registered router, the token with which it joins, once, and the pin by which it knows
    this control plane."""

    router: Router
    joinToken: str  # noqa: N815
    expiresAt: datetime  # noqa: N815
    caPin: str  # noqa: N815


class RoutersHttp:
    """The handlers of the verbs below /api/v1/routers/{name}."""

    def __init__(self, submitter: Submitter, tickets: Tickets) -> None:
        self._submitter = submitter
        self._tickets = tickets

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="POST",
                path="/api/v1/routers/{name}/register",
                summary="Register a router and get the token with which it joins",
                handler=self._register,
                needs=needs(Verb.REGISTER, "Router"),
                body=RouterRegistration,
                answer=RegisteredRouter,
                status=201,
                errors=(Invalid, NotFound, AlreadyExists, Conflict),
            ),
            *self._tickets.verbs(PeerRole.ROUTER, "routers", Router),
            Route(
                method="DELETE",
                path="/api/v1/routers/{name}",
                summary="Delete one router: its certificate is refused everywhere at once",
                handler=self._remove,
                needs=needs(Verb.DELETE, "Router"),
                answer=Removed,
                queries={
                    "dryRun": "true = check and answer, but change nothing",
                    "resourceVersion": "change it only if it is still at this version",
                },
                errors=(Invalid, NotFound, Conflict),
            ),
        ]

    async def _register(self, request: web.Request) -> web.Response:
        name = check_name("router", request.match_info["name"])
        body = await read_document(request)
        registration = converted(body, RouterRegistration)

        def event(ticket: Ticket) -> RouterRegistered:
            return RouterRegistered(
                actor=actor(request),
                name=name,
                spec=registration.spec,
                token_sha256=ticket.token_sha256,
                token_expires_at=ticket.expires_at,
                require_accept=registration.requireAccept,
                rejoin=registration.rejoin,
            )

        return await self._tickets.register(
            request, body, (PeerRole.ROUTER, name), event, ttl_s=registration.tokenTtlSeconds
        )

    async def _remove(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        event = ObjectRemoved(
            actor=actor(request), kind="Router", name=name, expected=revision_asked_for(request)
        )
        await self._submitter.submit(
            event,
            caller=caller_of(request),
            key=idempotency(request),
            dry_run=flag(request, "dryRun"),
        )
        return reply(Removed(apiVersion=API_VERSION, kind="Router", metadata=Metadata(name=name)))
