"""Clusters of one region in one process: real gateways over mutual TLS, real shelves and transfers,
and one origin that counts. Their list of each other is set by the test.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from blake3 import blake3

from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.gateway.gateway import PEER_PATHS, Gateway
from edge_agent.gateway.peers import PeerDesk
from edge_agent.policy.swarm_terms import SwarmLimits
from edge_agent.sync.bringing import Means
from edge_agent.sync.connection import Patience
from edge_agent.sync.exchange import Exchange
from edge_agent.sync.offers import Offer
from edge_agent.sync.peer_status import PeerStatuses
from edge_agent.sync.shelf import Shelf
from edge_agent.sync.throttle import Throttle
from edge_agent.sync.transfer import Transfers
from edge_agent.sync.views import PieceReader
from federation.contract.locations import Locations, PackSource, Place, pack_places
from federation.contract.manifest import distinct_chunks
from federation.contract.spiffe import PeerRole
from federation.contract.sync import SyncPeer, SyncSpec
from federation.contract.types import Urgency
from federation.identity.authority import Authority
from federation.relay.guard import PeerGuard
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from tests.edge_agent.sync.packages import Package
from tests.edge_agent.sync.store import Store
from tests.pki import credentials_for

QUICK = Patience(connect_s=1.0, read_s=3.0, window_s=3.0, min_bytes_per_s=1024.0)
LIMITS = SwarmLimits(stall_s=3.0)


class Lying:
    """A reader that flips a bit of everything it gives away."""

    def __init__(self, view: PieceReader) -> None:
        self._view = view
        self.manifest, self.pieces = view.manifest, view.pieces
        self.holds, self.bitmap = view.holds, view.bitmap

    def read(self, piece: int, skip: int, length: int) -> bytes:
        data = self._view.read(piece, skip, length)
        return bytes([data[0] ^ 1]) + data[1:]


class Cluster:
    """One edge agent, as far as packages go."""

    def __init__(
        self,
        name: str,
        authority: Authority,
        root: Path,
        origin: str,
        *,
        mbytes_per_second: float = 0.0,
        lies: bool = False,
    ) -> None:
        self.name, self.url = name, ""
        self.credentials = credentials_for(authority, PeerRole.CLUSTER, name)
        self.shelf = Shelf(root / name)
        self.throttle = Throttle(SyncSpec(max_mbytes_per_second=mbytes_per_second))
        self._lies = lies
        transfers = Transfers(
            self.credentials, self.throttle, url=origin, patience=QUICK, peer_patience=QUICK
        )
        self.exchange = Exchange(
            Means(
                me=name,
                carrier=transfers,
                statuses=PeerStatuses(self.credentials),
                clock=SystemClock(),
                dice=random.Random(name),
                is_closed=self.throttle.origin.is_closed,
                limits=LIMITS,
            )
        )
        self.engine = FakeEngine()
        self.guard = PeerGuard(self.credentials, PeerRole.ROUTER, SystemClock(), paths=PEER_PATHS)
        self.desk = PeerDesk(self.exchange, self._view, self.throttle.upload)
        gateway = Gateway(FakeBackend(self.engine), dict, lambda *_: None)
        application = gateway.application(self.guard, self.desk)
        self._runner = make_runner(application, ServerLimits(shutdown_s=0.1))

    def _view(self, digest: str) -> PieceReader | None:
        view = self.shelf.peer_view(digest)
        return Lying(view) if self._lies and view else view

    async def open(self) -> None:
        context = self.credentials.server_context()
        _, port = await listen(self._runner, "127.0.0.1:0", context)
        self.url = f"https://127.0.0.1:{port}"

    async def close(self) -> None:
        await self.exchange.close()
        await self._runner.cleanup()
        self.desk.close()

    async def bring(self, package: Package, offer: Offer) -> Path:
        """Do what the syncer does."""
        staging = await asyncio.to_thread(package.open, self.shelf)
        try:
            await asyncio.to_thread(staging.resume)
            await asyncio.to_thread(staging.reuse)
            await self.exchange.bring(staging, offer, package.digest, Urgency.NORMAL)
            return await asyncio.to_thread(staging.publish)
        finally:
            await asyncio.to_thread(staging.close)


def stock(store: Store, package: Package) -> Offer:
    """Put a package into a store as one pack."""
    pack, places = b"", []
    for digest in distinct_chunks(package.manifest):
        data = package.chunks[digest]
        places.append(Place(0, len(pack), len(data)))
        pack += data
    path = f"/packs/{blake3(pack).hexdigest()}"
    store.objects[path] = pack
    source = PackSource(id="a", url=f"{store.url}{path}")
    locations = Locations(packs=(source,), places=pack_places(places), good_for_s=600)

    async def load() -> Locations:
        return locations

    return Offer(package.manifest, locations, load)


def in_pieces(count: int, size: int, *, model: str = "m", seed: int = 0) -> Package:
    """Return a package of `count` pieces: a piece is part of one file."""
    dice = random.Random(f"{model}/{seed}")
    files = {f"{n:03}.bin": dice.randbytes(size) for n in range(count)}
    return Package(files, model=model, size=size // 2)


class Region:
    """Clusters, and the control plane's list of them."""

    def __init__(self, authority: Authority, root: Path, origin: str) -> None:
        self._make = (authority, root, origin)
        self.clusters: dict[str, Cluster] = {}
        self.extra: list[SyncPeer] = []  # listed as well
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Region":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def add(
        self, name: str, *, mbytes_per_second: float = 0.0, lies: bool = False
    ) -> Cluster:
        cluster = Cluster(name, *self._make, mbytes_per_second=mbytes_per_second, lies=lies)
        self._stack.push_async_callback(cluster.close)
        await cluster.open()
        self.clusters[name] = cluster
        return cluster

    def publish(self, digest: str, fetching: Sequence[str]) -> None:
        """Tell everybody who is there, and who has announced the package."""
        peers = (
            *self.extra,
            *(
                SyncPeer(cluster=c.name, url=c.url, digests=(digest,) * (c.name in fetching))
                for c in self.clusters.values()
            ),
        )
        for cluster in self.clusters.values():
            cluster.exchange.peers_changed(peers)
