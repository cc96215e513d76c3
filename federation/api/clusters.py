"""Cluster verbs: register, accept, revoke, cordon, uncordon, drain.

Input: operators. Output: events for the control loop; for a registration also the one-time join
token.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from federation.api.bodies import converted, idempotency, read_document, reply
from federation.api.documents import Cluster
from federation.api.resources import Submitter
from federation.api.route import Route, actor, caller_of, flag, needs
from federation.api.tickets import Ticket, Tickets
from federation.contract.errors import AlreadyExists, Conflict, Invalid, NotFound
from federation.contract.names import check_name
from federation.contract.resources import ClusterSpec
from federation.contract.spiffe import PeerRole
from federation.contract.sync_rules import check_time_zone
from federation.contract.types import Scheduling
from federation.policy.access.roles import Verb
from federation.policy.events import ClusterRegistered, ClusterSchedulingChanged

_VERBS = {
    "cordon": Scheduling.CORDONED,
    "uncordon": Scheduling.ACTIVE,
    "drain": Scheduling.DRAINING,
}
_SUMMARIES = {
    "cordon": "Give the cluster no new models; it keeps its traffic",
    "uncordon": "Give the cluster models and traffic again",
    "drain": "Take the cluster's traffic away; what it has loaded stays loaded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A cluster to register. `rejoin` lets the agent of a known cluster join anew; with
    `requireAccept`, who joins gets no certificate before an operator accepts it."""

    spec: ClusterSpec
    rejoin: bool = False
    requireAccept: bool = False  # noqa: N815
    tokenTtlSeconds: int = 3600  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """The registered cluster, the token with which its agent joins, once, and the pin by which
    the agent knows this control plane."""

    cluster: Cluster
    joinToken: str  # noqa: N815
    expiresAt: datetime  # noqa: N815
    caPin: str  # noqa: N815


class Clusters:
    """The handlers of the verbs below /api/v1/clusters/{name}."""

    def __init__(self, submitter: Submitter, tickets: Tickets) -> None:
        self._submitter = submitter
        self._tickets = tickets

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        register = Route(
            method="POST",
            path="/api/v1/clusters/{name}/register",
            summary="Register a cluster and get the token with which its agent joins",
            handler=self._register,
            needs=needs(Verb.REGISTER, "Cluster"),
            body=Registration,
            answer=Registered,
            status=201,
            errors=(Invalid, NotFound, AlreadyExists, Conflict),
        )
        return [
            register,
            *self._tickets.verbs(PeerRole.CLUSTER, "clusters", Cluster),
            *(self._verb(verb) for verb in _VERBS),
        ]

    def _verb(self, verb: str) -> Route:
        return Route(
            method="POST",
            path=f"/api/v1/clusters/{{name}}/{verb}",
            summary=_SUMMARIES[verb],
            handler=self._schedule(_VERBS[verb]),
            needs=needs(Verb.SCHEDULE, "Cluster"),
            answer=Cluster,
            queries={"dryRun": "true = check and answer, but change nothing"},
            errors=(Invalid, NotFound, Conflict),
        )

    def _schedule(
        self, scheduling: Scheduling
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            name = request.match_info["name"]
            event = ClusterSchedulingChanged(actor=actor(request), name=name, scheduling=scheduling)
            state, _ = await self._submitter.submit(
                event,
                caller=caller_of(request),
                key=idempotency(request),
                dry_run=flag(request, "dryRun"),
            )
            return reply(self._submitter.document(state, "Cluster", name))

        return handle

    async def _register(self, request: web.Request) -> web.Response:
        name = check_name("cluster", request.match_info["name"])
        body = await read_document(request)
        registration = converted(body, Registration)
        check_time_zone(registration.spec.sync.time_zone)

        def event(ticket: Ticket) -> ClusterRegistered:
            return ClusterRegistered(
                actor=actor(request),
                name=name,
                spec=registration.spec,
                token_sha256=ticket.token_sha256,
                token_expires_at=ticket.expires_at,
                require_accept=registration.requireAccept,
                rejoin=registration.rejoin,
            )

        return await self._tickets.register(
            request, body, (PeerRole.CLUSTER, name), event, ttl_s=registration.tokenTtlSeconds
        )
