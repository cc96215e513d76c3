"""All versions that this cluster fetches now, and what it tells others of them.

Input: calls of the syncer, the control plane's list of the region's clusters. Output: filled
stagings, progress, and the answers that the gateway gives to other clusters.
"""

from dataclasses import replace

from edge_agent.policy.pace import SpanPace
from edge_agent.policy.swarm_members import PeerStatus
from edge_agent.sync.bringing import Bringing, Means, Stage
from edge_agent.sync.offers import Offer
from federation.contract.errors import Conflict
from federation.contract.sync import SyncPeer, SyncProgress
from federation.contract.types import Urgency

_REMEMBERED = 64  # finished transfers whose last progress is kept


class Exchange:
    """`bad_peers` counts members that sent wrong bytes."""

    def __init__(self, means: Means) -> None:
        self.bad_peers = 0
        self.peers: tuple[SyncPeer, ...] = ()
        self._running: dict[str, Bringing] = {}
        self._finished: dict[str, SyncProgress] = {}
        self._pace = SpanPace()
        self._means = replace(
            means,
            on_bad_peer=self._note_bad_peer,
            send_rate=lambda: self._pace.rate,
        )

    def __repr__(self) -> str:
        return f"Exchange({len(self._running)} running, {len(self.peers)} clusters in the region)"

    # ------------------------------------------------------------ the syncer's side

    async def bring(self, staging: Stage, offer: Offer, digest: str, urgency: Urgency) -> None:
        """Fetch what a staging lacks; return when it lacks nothing. May be cancelled at any time.

        Raises Conflict if the package is being brought already, Unavailable or Invalid if the
        origin cannot be had for long, and what `staging.put` raises.
        """
        if digest in self._running:
            raise Conflict(f"the package {digest[:16]} is being brought already.")
        bringing = Bringing(self._means, staging, offer, urgency, self.peers)
        self._running[digest] = bringing
        try:
            await bringing.run()
        finally:
            del self._running[digest]
            self._finished.pop(digest, None)
            self._finished[digest] = bringing.progress()
            if len(self._finished) > _REMEMBERED:
                del self._finished[next(iter(self._finished))]
            if not self._running:
                self._means.at_rest()

    def hasten(self, digest: str, urgency: Urgency) -> None:
        """What is fetched of a package from now on has this urgency."""
        if bringing := self._running.get(digest):
            bringing.urgency = urgency

    def peers_changed(self, peers: tuple[SyncPeer, ...]) -> None:
        """Take over the control plane's list of the region's clusters, this one among them."""
        self.peers = peers
        for bringing in self._running.values():
            bringing.peers_changed(peers)

    def progress(self, digest: str) -> SyncProgress | None:
        """Return how far a package is; None if it is not being brought."""
        bringing = self._running.get(digest)
        return bringing.progress() if bringing else None

    def finished(self, digest: str) -> SyncProgress | None:
        """Return how the last transfer of a package ended; None if there was none in this run."""
        return self._finished.get(digest)

    async def close(self) -> None:
        """Close the connections to others and to the origin."""
        await self._means.carrier.close()
        await self._means.statuses.close()

    # ------------------------------------------------------------ the gateway's side

    def status(self, digest: str) -> PeerStatus | None:
        """Return what to tell others of a package that is being brought."""
        bringing = self._running.get(digest)
        return bringing.status() if bringing else None

    def is_mine(self, digest: str, piece: int) -> bool:
        """Return whether this cluster is about to get a piece from the origin."""
        bringing = self._running.get(digest)
        return bringing is not None and bringing.is_mine(piece)

    def gives(self, digest: str, piece: int) -> bool:
        """Return whether a piece that is here goes to somebody who asks for it now."""
        bringing = self._running.get(digest)
        return bringing is None or bringing.gives(piece)

    def given(self, digest: str, piece: int) -> None:
        """Note that another cluster has taken a piece."""
        if bringing := self._running.get(digest):
            bringing.given(piece)

    def is_peer(self, name: str) -> bool:
        """Return whether a cluster may be given pieces: it is another one of this region."""
        return name != self._means.me and any(peer.cluster == name for peer in self.peers)

    def gave(self, count: int, seconds: float) -> None:
        """Note how long it took until another cluster had taken `count` bytes."""
        self._pace.note(count, seconds, self._means.clock.monotonic_s())

    def _note_bad_peer(self, _name: str) -> None:
        self.bad_peers += 1
