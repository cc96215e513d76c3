"""What clusters and routers have in common: the one-time join token, acceptance, revocation.

Input: operators. Output: events for the control loop; the join token of a registration, which is
shown here and nowhere else, with the pin by which the newcomer knows this control plane.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web

from federation.api.bodies import idempotency, reply
from federation.api.resources import Submitter
from federation.api.route import Route, actor, caller_of, flag, needs
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.spiffe import PeerRole
from federation.contract.strict_yaml import Document
from federation.identity.tokens import TokenKind, derive, mint, sha256
from federation.policy.access.roles import Verb
from federation.policy.events import Event, Idempotency
from federation.policy.membership.events import PeerAccepted, PeerRevoked
from federation.policy.membership.members import find_or_none, kind_of
from federation.runtime.clock import Clock

MAX_TTL_S = 3600
_TOKEN_KINDS = {PeerRole.CLUSTER: TokenKind.JOIN, PeerRole.ROUTER: TokenKind.ROUTER_JOIN}
_SUMMARIES = {
    Verb.ACCEPT: "Let a {} in that joined with a token which demands it",
    Verb.REVOKE: "Take the membership of a {} away: its certificate is refused everywhere at once",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a registration gives out: the hash of the token is kept, and for how long it is good."""

    token_sha256: str
    expires_at: datetime


class Tickets:
    """Hands out join tokens, and serves the verbs `accept` and `revoke`.

    `token_key` is a secret of this control plane: with it, a repeated registration (same
    Idempotency-Key) gets the same join token again, although only its hash was kept. `pin` tells
    the pin of the root that signs now.
    """

    def __init__(
        self, submitter: Submitter, clock: Clock, *, token_key: str, pin: Callable[[], str]
    ) -> None:
        self._submitter = submitter
        self._clock = clock
        self._token_key = token_key
        self._pin = pin

    async def register(
        self,
        request: web.Request,
        body: Document,
        member: tuple[PeerRole, str],
        event: Callable[[Ticket], Event],
        *,
        ttl_s: int,
    ) -> web.Response:
        """Submit the event that registers `member` (role and name); answer with its token."""
        role, name = member
        if not 1 <= ttl_s <= MAX_TTL_S:
            raise Invalid(f"tokenTtlSeconds must be 1 to {MAX_TTL_S}.")
        key = idempotency(request, body)
        token = self._token(request, _TOKEN_KINDS[role], name, key)
        ticket = Ticket(
            token_sha256=sha256(token), expires_at=self._clock.utc() + timedelta(seconds=ttl_s)
        )
        state, _ = await self._submitter.submit(event(ticket), caller=caller_of(request), key=key)
        record = find_or_none(state, role, name)
        kept = record.ticket if record else None
        if kept is None or kept.token_sha256 != ticket.token_sha256:
            raise Conflict(
                f"the join token of this registration of {name!r} is no longer valid.",
                hint=f"Get a new one: fed {role.value} register {name} --rejoin",
            )
        return reply(
            {
                role.value: self._submitter.document(state, kind_of(role), name),
                "joinToken": token,
                "expiresAt": kept.expires_at,
                "caPin": self._pin(),
            },
            status=201,
        )

    def _token(
        self, request: web.Request, kind: TokenKind, name: str, key: Idempotency | None
    ) -> str:
        if key is None:
            return mint(kind, name)
        purpose = f"{actor(request)} {key.key} {key.fingerprint}"
        return derive(kind, name, key=self._token_key, purpose=purpose)

    def verbs(self, role: PeerRole, plural: str, answer: type) -> list[Route]:
        """Return the routes that accept and revoke members of a role."""
        return [
            Route(
                method="POST",
                path=f"/api/v1/{plural}/{{name}}/{verb.value}",
                summary=_SUMMARIES[verb].format(role.value),
                handler=self._handler(role, verb),
                needs=needs(verb, kind_of(role)),
                answer=answer,
                queries={"dryRun": "true = check and answer, but change nothing"},
                errors=(Invalid, NotFound, Conflict),
            )
            for verb in (Verb.ACCEPT, Verb.REVOKE)
        ]

    def _handler(
        self, role: PeerRole, verb: Verb
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        make = PeerAccepted if verb is Verb.ACCEPT else PeerRevoked

        async def handle(request: web.Request) -> web.StreamResponse:
            name = request.match_info["name"]
            event = make(actor=actor(request), role=role, name=name)
            state, _ = await self._submitter.submit(
                event,
                caller=caller_of(request),
                key=idempotency(request),
                dry_run=flag(request, "dryRun"),
            )
            return reply(self._submitter.document(state, kind_of(role), name))

        return handle
