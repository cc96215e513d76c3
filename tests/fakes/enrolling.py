"""The open routes of a control plane (trust, join, renew) over real TLS, for their callers."""

import asyncio
import base64
import json
from datetime import timedelta
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation, Trust
from federation.identity.authority import Authority, key_digest
from federation.relay.server import listen, make_runner
from federation.trust.calls import Contact
from federation.trust.keys import facts_of
from federation.trust.renewal import Patience
from tests.pki import TRUST_DOMAIN, credentials_for, trust_of

QUICK = Patience(acceptance_s=0.05, least_s=0.01)


class EnrollingPlane:
    """Says yes to those who hold one of `tokens`; what it was sent is in `seen`."""

    def __init__(self, authority: Authority, *, life: timedelta = timedelta(hours=1)) -> None:
        authority.leaf_life = life
        self.authority = authority
        self.credentials = credentials_for(
            authority, PeerRole.CONTROL_PLANE, "main", life=timedelta(hours=1)
        )
        self.tokens: dict[str, PeerId] = {}
        self.used: dict[str, str] = {}  # token -> digest of the key
        self.waiting = False  # an operator has to accept first
        self.lose = 0  # so many answers get lost after the certificate was issued
        self.override: web.Response | None = None
        self.generation = 1
        self.trust_version = 1
        self.revoked: tuple[Revocation, ...] = ()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.issued = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def pin(self) -> str:
        """The pin of the root that signs."""
        return self.authority.roots[self.authority.signing].pin

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"https://127.0.0.1:{self.port}"

    def contact(self, token_file: Any = None, **more: Any) -> Contact:
        """How a process finds this control plane."""
        values = {"url": self.url, "pin": self.pin, "token_file": token_file, "timeout_s": 5.0}
        return Contact(**(values | more))

    def admit(self, role: PeerRole, name: str) -> str:
        """Return a new join token."""
        kind = "join" if role is PeerRole.CLUSTER else "routerjoin"
        token = f"fed_{kind}_{name}_{len(self.tokens):043d}"
        self.tokens[token] = PeerId(TRUST_DOMAIN, role, name)
        return token

    def trust(self) -> Trust:
        """Whom to trust now."""
        return trust_of(self.authority, self.trust_version, revoked=self.revoked)

    async def start(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application()
        app.router.add_get("/api/v1/trust", self._trust)
        app.router.add_post("/api/v1/join", self._join)
        app.router.add_post("/api/v1/renew", self._renew)
        self._runner = make_runner(app)
        context = self.credentials.server_context(demand_clients=False)
        _, self.port = await listen(self._runner, f"127.0.0.1:{self.port}", context)

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    async def _trust(self, request: web.Request) -> web.Response:
        self.seen.append(("trust", dict(request.headers)))
        return self.override or web.json_response(self._document())

    async def _join(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.seen.append(("join", body))
        token, digest = body["token"], key_digest(body["csr"])
        if token not in self.tokens:
            return refusal(401, "the join token is unknown or expired.", "unauthenticated")
        if self.used.setdefault(token, digest) != digest:
            return refusal(409, "the join token was used by another key.", "join-token-used")
        if self.waiting:
            return web.json_response({"state": "awaiting-acceptance"}, status=202)
        return self._issue(request, body["csr"], self.tokens[token])

    async def _renew(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.seen.append(("renew", body))
        facts = facts_of(body["certificate"])
        old = x509.load_pem_x509_certificate(body["certificate"].encode()).public_key()
        assert isinstance(old, ec.EllipticCurvePublicKey)
        try:
            proof = base64.b64decode(body["proof"])
            old.verify(proof, body["csr"].encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return refusal(401, "the old key did not sign this.", "unauthenticated")
        if self.trust().refuses(facts.id.uri, facts.generation):
            return refusal(401, "the certificate is revoked.", "certificate-revoked")
        return self._issue(request, body["csr"], facts.id)

    def _issue(self, request: web.Request, csr: str, id: PeerId) -> web.Response:
        issued = self.authority.issue(csr, id, generation=self.generation)
        self.issued += 1
        if self.lose:
            self.lose -= 1
            assert request.transport
            request.transport.abort()
        return web.json_response(
            {
                "identity": id.uri,
                "certificate": issued.pem,
                "notAfter": issued.not_after.isoformat(),
                "trust": self._document(),
            }
        )

    def _document(self) -> dict[str, Any]:
        trust = self.trust()
        return {
            "version": trust.version,
            "trustDomain": trust.trust_domain,
            "roots": list(trust.roots),
            "revoked": [{"uri": r.uri, "below": r.below} for r in trust.revoked],
        }


def refusal(status: int, detail: str, reason: str) -> web.Response:
    """A problem document."""
    document = {"status": status, "detail": detail, "reason": reason, "hint": "Ask for another."}
    return web.Response(
        status=status, body=json.dumps(document).encode(), content_type="application/problem+json"
    )


async def until(condition: Any, timeout_s: float = 10.0) -> None:
    """Wait until a condition holds, for a limited time."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
