"""How strangers become peers, and peers stay so: trust, joining, renewing. Open to everyone.

Input: join tokens with signing requests, or old certificates with a proof of their key. Output: for
the control loop PeerJoined; certificates, with all that a peer needs to know whom it may trust. Who
may join is the deciders' word; this module checks proofs and signs.
"""

import base64
import binascii
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web

from federation.api.bodies import read_body, reply
from federation.api.origin import origin_of
from federation.api.route import OPEN, Route
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Trust
from federation.control_loop import ControlLoop
from federation.identity.authority import Authority, key_digest
from federation.identity.tokens import TokenKind, parse, sha256
from federation.policy.membership.events import Joined, PeerJoined
from federation.policy.membership.members import check_member, find_or_none
from federation.relay.server import BodyLimits

log = logging.getLogger(__name__)

LIMITS = BodyLimits(max_bytes=32 * 1024, total_s=10.0)
_ROLES = {TokenKind.JOIN: PeerRole.CLUSTER, TokenKind.ROUTER_JOIN: PeerRole.ROUTER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The roots (PEM) of this federation, and the keys (Ed25519, hex) that sign its releases.
    Compare one root with a pin before trusting any of it."""

    trustDomain: str  # noqa: N815
    version: int
    roots: tuple[str, ...]
    releaseKeys: tuple[str, ...]  # noqa: N815  # as in the document


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """A join token, and a PKCS 10 signing request (PEM) whose key shall be certified."""

    token: str
    csr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewRequest:
    """An old certificate, a signing request for the new key (both PEM), and base64 of the old
    key's ECDSA-SHA256 signature over the bytes of the signing request."""

    certificate: str
    csr: str
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """Certificates of this identity and a lower generation are refused."""

    uri: str
    below: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDocument:
    """Whom to trust from now on."""

    trustDomain: str  # noqa: N815
    version: int
    roots: tuple[str, ...]
    revoked: tuple[Revoked, ...]
    releaseKeys: tuple[str, ...]  # noqa: N815  # as in the document


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A certificate (PEM), and whom to trust."""

    identity: str
    certificate: str
    notAfter: datetime  # noqa: N815
    trust: TrustDocument


class Join:
    """The handlers of trust, join and renew. `renew_grace` is how long after its end a
    certificate may still be renewed."""

    def __init__(
        self,
        loop: ControlLoop,
        authority: Authority,
        *,
        trust: Callable[[], Trust | None],
        renew_grace: timedelta,
    ) -> None:
        self._loop = loop
        self._authority = authority
        self._trust = trust
        self._renew_grace = renew_grace

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="GET",
                path="/api/v1/trust",
                summary="The roots of this federation",
                handler=self._roots,
                needs=OPEN,
                answer=Roots,
                errors=(Unavailable,),
            ),
            Route(
                method="POST",
                path="/api/v1/join",
                summary="Join with a token; 202 while an operator must accept it: repeat it then",
                handler=self._join,
                needs=OPEN,
                body=JoinRequest,
                answer=Enrolled,
                errors=(Invalid, Unauthenticated, AlreadyExists, TooLarge, Unavailable),
            ),
            Route(
                method="POST",
                path="/api/v1/renew",
                summary="Exchange a certificate for a new one",
                handler=self._renew,
                needs=OPEN,
                body=RenewRequest,
                answer=Enrolled,
                errors=(Invalid, Unauthenticated, Conflict, TooLarge, Unavailable),
            ),
        ]

    async def _roots(self, _: web.Request) -> web.Response:
        trust = self._ready_trust()
        return reply(
            Roots(
                trustDomain=trust.trust_domain,
                version=trust.version,
                roots=trust.roots,
                releaseKeys=trust.release_keys,
            )
        )

    async def _join(self, request: web.Request) -> web.Response:
        body = await read_body(request, JoinRequest, LIMITS)
        self._ready_trust()
        token = parse(body.token.strip())
        if token.kind not in _ROLES:
            raise Unauthenticated("this is no join token.", reason="join-token-wrong")
        key_sha256 = key_digest(body.csr)
        joined = await self._loop.submit(
            PeerJoined(
                role=_ROLES[token.kind],
                name=token.id,
                token_sha256=sha256(token.text),
                key_sha256=key_sha256,
            ),
            origin=origin_of(request),
        )
        if not isinstance(joined, Joined):
            raise Unavailable("the control plane gave no answer to a join.")
        told = {"peer": f"{_ROLES[token.kind].value}/{token.id}", "key_sha256": key_sha256}
        if not joined.accepted:
            log.info("waits for an operator", extra=told)
            return reply({"state": "awaiting-acceptance"}, status=202)
        log.info("joined", extra=told)
        return self._enrolled(_ROLES[token.kind], token.id, joined.generation, body.csr)

    async def _renew(self, request: web.Request) -> web.Response:
        body = await read_body(request, RenewRequest, LIMITS)
        self._ready_trust()
        facts = self._authority.check_renewal(
            body.certificate, body.csr, _signature(body.proof), grace=self._renew_grace
        )
        role, name = facts.id.role, facts.id.name
        if facts.id.trust_domain != self._authority.trust_domain:
            raise Unauthenticated(
                f"{facts.id} is of another trust domain.", reason="wrong-trust-domain"
            )
        record = find_or_none(self._loop.state, role, name)
        if record is None:
            raise Unauthenticated(
                f"{role.value} {name!r} is not part of this federation (any more).",
                hint=f"Register it with: fed {role.value} register {name}",
                reason="certificate-revoked",
            )
        check_member(record.membership, role, name, facts.generation)
        return self._enrolled(role, name, facts.generation, body.csr)

    def _enrolled(self, role: PeerRole, name: str, generation: int, csr: str) -> web.Response:
        id = PeerId(self._authority.trust_domain, role, name)
        issued = self._authority.issue(csr, id, generation=generation)
        trust = self._ready_trust()
        return reply(
            Enrolled(
                identity=id.uri,
                certificate=issued.pem,
                notAfter=issued.not_after,
                trust=TrustDocument(
                    trustDomain=trust.trust_domain,
                    version=trust.version,
                    roots=trust.roots,
                    revoked=tuple(Revoked(uri=r.uri, below=r.below) for r in trust.revoked),
                    releaseKeys=trust.release_keys,
                ),
            )
        )

    def _ready_trust(self) -> Trust:
        """Return whom to trust; raises Unavailable before the state is loaded: until then nobody
        is known, and a known peer must not be turned away for that."""
        trust = self._trust()
        if trust is None or not self._loop.is_ready:
            raise Unavailable("the control plane is starting.", hint="Try again soon.")
        return trust


def _signature(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("the proof is no base64.") from None
