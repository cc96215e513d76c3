"""Cluster verbs: register, cordon, uncordon, drain.

Input: operators. Output: events for the control loop; for a registration also the one-time join
token, which is shown here and nowhere else.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web

from federation.api.bodies import converted, idempotency, read_document, reply
from federation.api.documents import Cluster
from federation.api.resources import Submitter
from federation.api.route import CALLER, Route, actor, flag
from federation.contract.errors import AlreadyExists, Conflict, Invalid, NotFound
from federation.contract.names import check_name
from federation.contract.resources import ClusterSpec
from federation.contract.types import Scheduling
from federation.identity.tokens import TokenKind, derive, mint, sha256
from federation.policy.events import ClusterRegistered, ClusterSchedulingChanged, Idempotency
from federation.runtime.clock import Clock

MAX_TTL_S = 24 * 3600
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
    """A cluster to register. `rejoin` lets the agent of a known cluster join anew."""

    spec: ClusterSpec
    rejoin: bool = False
    tokenTtlSeconds: int = 3600  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """The registered cluster, and the token with which its agent joins, once."""

    cluster: Cluster
    joinToken: str  # noqa: N815
    expiresAt: datetime  # noqa: N815


class Clusters:
    """The handlers of the verbs below /api/v1/clusters/{name}.

    `token_key` is a secret of this control plane: with it, a repeated registration (same
    Idempotency-Key) gets the same join token again, although only its hash was kept.
    """

    def __init__(self, submitter: Submitter, clock: Clock, *, token_key: str) -> None:
        self._submitter = submitter
        self._clock = clock
        self._token_key = token_key

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        register = Route(
            method="POST",
            path="/api/v1/clusters/{name}/register",
            summary="Register a cluster and get the token with which its agent joins",
            handler=self._register,
            body=Registration,
            answer=Registered,
            status=201,
            errors=(Invalid, NotFound, AlreadyExists, Conflict),
        )
        return [register, *(self._verb(verb) for verb in _VERBS)]

    def _verb(self, verb: str) -> Route:
        return Route(
            method="POST",
            path=f"/api/v1/clusters/{{name}}/{verb}",
            summary=_SUMMARIES[verb],
            handler=self._schedule(_VERBS[verb]),
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
                event, key=idempotency(request), dry_run=flag(request, "dryRun")
            )
            return reply(self._submitter.document(state, "Cluster", name))

        return handle

    async def _register(self, request: web.Request) -> web.Response:
        name = check_name("cluster", request.match_info["name"])
        body = await read_document(request)
        registration = converted(body, Registration)
        if not 1 <= registration.tokenTtlSeconds <= MAX_TTL_S:
            raise Invalid(f"tokenTtlSeconds must be 1 to {MAX_TTL_S}.")
        key = idempotency(request, body)
        token = self._token(request, name, key)
        state, _ = await self._submitter.submit(
            ClusterRegistered(
                actor=actor(request),
                name=name,
                spec=registration.spec,
                token_sha256=sha256(token),
                token_expires_at=self._clock.utc()
                + timedelta(seconds=registration.tokenTtlSeconds),
                rejoin=registration.rejoin,
            ),
            key=key,
        )
        record = state.clusters.get(name)
        ticket = record.ticket if record else None
        if ticket is None or ticket.token_sha256 != sha256(token):
            raise Conflict(
                f"the join token of this registration of {name!r} is no longer valid.",
                hint=f"Get a new one: fed cluster register {name} --rejoin",
            )
        return reply(
            {
                "cluster": self._submitter.document(state, "Cluster", name),
                "joinToken": token,
                "expiresAt": ticket.expires_at,
            },
            status=201,
        )

    def _token(self, request: web.Request, name: str, key: Idempotency | None) -> str:
        if key is None:
            return mint(TokenKind.JOIN, name)
        purpose = f"{request[CALLER].sha256} {key.key} {key.fingerprint}"
        return derive(TokenKind.JOIN, name, key=self._token_key, purpose=purpose)
