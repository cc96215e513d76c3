"""The part of a control plane that peers need: it admits, renews, and streams what it is told.

Input: an Authority. Output: an https URL with the open routes, and a gRPC address.
"""

import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from aiohttp import web

from federation.contract.spiffe import PeerId, PeerRole
from federation.identity.authority import Authority
from federation.relay.server import listen, make_runner
from federation.trust.keys import facts_of
from tests.pki import HOSTS, TRUST_DOMAIN, credentials_for, trust_of
from tests.router.membership.test_watch import FakeControlPlane, control_plane


class Registrar:
    """Says yes to every join and renewal, unless `waiting` or `closed`."""

    def __init__(self, authority: Authority, life: timedelta | None) -> None:
        self.authority = authority
        self.life = life
        self.url = ""
        self.grpc_address = ""
        self.waiting = False
        self.asked: list[str] = []
        self.stream: FakeControlPlane | None = None

    @property
    def pin(self) -> str:
        (root,) = self.authority.roots.values()
        return f"sha256:{hashlib.sha256(ssl.PEM_cert_to_DER_cert(root.pem)).hexdigest()}"

    async def answer(self, request: web.Request) -> web.Response:
        verb = request.path.rpartition("/")[2]
        self.asked.append(verb)
        if verb == "trust":
            return web.json_response(self._trust())
        sent: dict[str, Any] = await request.json()
        if self.waiting:
            return web.json_response({"state": "awaiting-acceptance"}, status=202)
        id = self._joining(sent["token"]) if verb == "join" else facts_of(sent["certificate"]).id
        self.authority.leaf_life = self.life or self.authority.leaf_life
        issued = self.authority.issue(sent["csr"], id, generation=1, hosts=HOSTS)
        document = {
            "identity": id.uri,
            "certificate": issued.pem,
            "notAfter": issued.not_after.isoformat(),
            "trust": self._trust() | {"revoked": []},
        }
        return web.json_response(document)

    def _joining(self, token: str) -> PeerId:
        _, kind, name, _ = token.split("_")
        role = {"join": PeerRole.CLUSTER, "routerjoin": PeerRole.ROUTER}[kind]
        return PeerId(TRUST_DOMAIN, role, name)

    def _trust(self) -> dict[str, object]:
        trust = trust_of(self.authority)
        return {"version": 1, "trustDomain": trust.trust_domain, "roots": trust.roots}


@asynccontextmanager
async def registrar(
    authority: Authority, *, life: timedelta | None = None
) -> AsyncIterator[Registrar]:
    """Run one on any free ports; `life` is that of the leaves it issues."""
    credentials = credentials_for(authority, PeerRole.CONTROL_PLANE, "main")
    fake, app = Registrar(authority, life), web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = make_runner(app)
    try:
        context = credentials.server_context(demand_clients=False)
        host, port = await listen(runner, "127.0.0.1:0", context)
        fake.url = f"https://{host}:{port}"
        async with control_plane(credentials) as (stream, grpc_port):
            fake.stream, fake.grpc_address = stream, f"127.0.0.1:{grpc_port}"
            yield fake
    finally:
        await runner.cleanup()
