"""Who is admitted to a stream, and why one that lived ends."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from federation.api.denials import Denials
from federation.api.doorkeeper import Doorkeeper, check_speaks_for
from federation.contract.errors import PermissionDenied, Unauthenticated, Unavailable
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation, Trust
from federation.policy.membership.trust import revocations
from federation.runtime.clock import ManualClock, SystemClock
from federation.trust.keys import new_key, signing_request
from federation.trust.peers import Peer
from tests.federation.policy.world import World
from tests.pki import make_authority

DOMAIN = "federation.internal"


class Shown:
    """A gRPC context as far as a doorkeeper looks at it."""

    def __init__(self, pem: str) -> None:
        self._pem = pem

    def auth_context(self) -> Mapping[str, Any]:
        return {"x509_pem_cert": [self._pem.encode()]} if self._pem else {}


class Rig:
    def __init__(self, tmp_path: Path) -> None:
        self.world = World()
        self.world.cluster("c")
        self.clock = ManualClock(self.world.now)
        self.trust: Trust | None = Trust(version=1, trust_domain=DOMAIN, roots=())
        self.authority = make_authority(tmp_path, clock=self.clock, trust_domain=DOMAIN)
        self.doorkeeper = Doorkeeper(
            state=lambda: self.world.state,
            trust=lambda: self.trust,
            clock=self.clock,
            denials=Denials(submit=self.never, clock=self.clock),
        )

    async def never(self, *_: object, **__: object) -> object:
        raise AssertionError("nothing is submitted here")

    def shown(self, name: str = "c", role: PeerRole = PeerRole.CLUSTER, generation: int = 0) -> Any:
        generation = generation or self.world.state.clusters["c"].membership.generation
        id = PeerId(DOMAIN, role, name)
        csr = signing_request(new_key())
        return Shown(self.authority.issue(csr, id, generation=generation).pem)

    def admit(self, shown: Any) -> Peer:
        return self.doorkeeper.admit(shown, PeerRole.CLUSTER)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_member_is_admitted(rig: Rig) -> None:
    assert rig.admit(rig.shown()).id.name == "c"


def test_who_is_not_admitted(rig: Rig) -> None:
    with pytest.raises(Unauthenticated, match="no client certificate"):
        rig.admit(Shown(""))
    with pytest.raises(PermissionDenied, match="is no cluster"):
        rig.admit(rig.shown(role=PeerRole.ROUTER))
    with pytest.raises(Unauthenticated, match="earlier join"):
        rig.admit(rig.shown(generation=1))
    shown = rig.shown()
    rig.clock.advance(timedelta(hours=24).total_seconds())
    with pytest.raises(Unauthenticated, match="expired"):
        rig.admit(shown)
    rig.trust = None
    with pytest.raises(Unavailable):
        rig.admit(rig.shown())


def test_why_a_stream_was_closed(rig: Rig) -> None:
    peer = rig.admit(rig.shown())
    assert rig.doorkeeper.why_closed(peer, "a newer stream took over").reason == "replaced"
    rig.world.revoke("c")
    assert rig.doorkeeper.why_closed(peer, "x").reason == "certificate-revoked"
    rig.world.remove("Cluster", "c")
    revoked: tuple[Revocation, ...] = revocations(rig.world.state)
    rig.trust = Trust(version=2, trust_domain=DOMAIN, roots=(), revoked=revoked)
    assert rig.doorkeeper.why_closed(peer, "x").reason == "certificate-revoked"


async def test_the_end_of_a_certificate_is_awaited() -> None:
    clock = SystemClock()
    doorkeeper = Doorkeeper(
        state=lambda: World().state,
        trust=lambda: None,
        clock=clock,
        denials=Denials(submit=_ignored, clock=clock),
    )
    until = clock.utc() + timedelta(seconds=0.2)
    id = PeerId(DOMAIN, PeerRole.ROUTER, "r")
    peer = Peer(id=id, generation=1, not_after=until)
    with pytest.raises(Unauthenticated, match="expired") as ended:
        async with asyncio.timeout(5):
            await doorkeeper.end_when_expired(peer)
    assert clock.utc() >= until
    assert ended.value.reason == "certificate-expired"


async def _ignored(*_: object, **__: object) -> object:
    return None


def test_each_speaks_for_itself() -> None:
    peer = Peer(
        id=PeerId(DOMAIN, PeerRole.ROUTER, "r"), generation=1, not_after=SystemClock().utc()
    )
    check_speaks_for(peer, "r")
    with pytest.raises(PermissionDenied, match="belongs to router 'r'"):
        check_speaks_for(peer, "other")
