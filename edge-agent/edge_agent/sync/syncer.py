"""Brings packages to this cluster's disk, one method call per version: the sync side's front door.

Input: what the worker is told to stage and verify, the settings and peers that the control plane
tells. Output: folders for the engines, progress for reports, verified pieces for the gateway.

The order is that of trust: documents, signature, room on the disk, what is here, the network.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_agent.policy.eviction import Key, protected
from edge_agent.sync.exchange import Exchange
from edge_agent.sync.origin import Origin
from edge_agent.sync.releases import ReleaseGate
from edge_agent.sync.scrubbing import Scrubbed
from edge_agent.sync.settings_file import SettingsFile
from edge_agent.sync.shelf import Shelf
from edge_agent.sync.staging import Staging
from edge_agent.sync.throttle import Throttle
from federation.contract.errors import AlreadyExists, Invalid, Unavailable
from federation.contract.sync import Disk, SyncPeer, SyncProgress, SyncSpec
from federation.contract.types import Assignment, Urgency

log = logging.getLogger(__name__)

GIB = 1 << 30
_DISK_S = 10.0  # how old the figures of the disk may be


@dataclass(slots=True)
class _Order:
    """A version that is being brought."""

    urgency: Urgency
    doing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a Syncer is made of."""

    shelf: Shelf
    origin: Origin
    gate: ReleaseGate
    throttle: Throttle
    exchange: Exchange
    settings: SettingsFile
    scrubbed: Scrubbed = field(default_factory=Scrubbed)


@dataclass(slots=True)
class Wanted:
    """What the newest assignment says of packages."""

    assigned: frozenset[Key] = frozenset()
    prefetched: frozenset[Key] = frozenset()
    known: bool = False

    @classmethod
    def of(cls, assignment: Assignment) -> "Wanted":
        """Read an assignment."""
        keys = {(v.model, v.version, v.digest): v.stage_only for v in assignment.versions}
        return cls(
            assigned=frozenset(key for key, only in keys.items() if not only),
            prefetched=frozenset(key for key, only in keys.items() if only),
            known=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Counters since the agent started. `moved_bytes` by way: from-origin, from-peers, to-peers (as
    counted on the network) and reused."""

    moved_bytes: Mapping[str, int]
    running: int
    releases_refused: int
    bad_peers: int
    disk: Disk
    scrubbed: Scrubbed


class Syncer:
    """The packages of one agent. Versions may be staged side by side."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._orders: dict[Key, _Order] = {}
        self._wanted = Wanted()
        self._disk = Disk()
        self._reused_bytes = 0
        self._brought: dict[tuple[str, int], str] = {}  # by this run of the agent
        if (spec := parts.settings.read()) is not None:
            self._follow(spec)

    def __repr__(self) -> str:
        return f"Syncer({len(self._orders)} being brought, {self._parts.shelf!r})"

    async def close(self) -> None:
        """End what is running; what was brought stays."""
        await self._parts.exchange.close()
        await self._parts.origin.close()

    # ------------------------------------------------------------ what the worker asks for

    async def stage(
        self, model: str, version: int, digest: str, urgency: Urgency = Urgency.NORMAL
    ) -> Path:
        """Return the folder of a whole package, brought now if it is not here yet.

        Raises Invalid if what came is not what was asked for, or nobody trusted signed it;
        Unavailable if nothing came or the disk fails; Exhausted if it does not fit.
        """
        key = (model, version, digest)
        with self._ordered(key, urgency) as order:
            path = await asyncio.to_thread(self._parts.shelf.find, *key)
            return path or await self._bring(key, order)

    async def verify(self, model: str, version: int, digest: str) -> None:
        """Hash every byte of a staged package again.

        Raises Invalid if it is not what the digest says; the package is then gone, and the next
        `stage` brings it anew.
        """
        await asyncio.to_thread(self._parts.shelf.verify, model, version, digest)

    def wants(self, key: Key) -> bool:
        """Whether the newest assignment wants a package here."""
        return key in self._wanted.assigned or key in self._wanted.prefetched

    async def bring_again(self, key: Key) -> None:
        """Bring a package that was found damaged. Raises as `stage`."""
        await self.stage(*key, urgency=Urgency.PREFETCH)

    async def used(self, model: str, version: int, digest: str) -> None:
        """Note that the engine loaded a package, or just gave it up."""
        await asyncio.to_thread(self._parts.shelf.touch, model, version, digest)

    def hasten(self, model: str, version: int, urgency: Urgency) -> None:
        """A version that is being brought is more urgent now."""
        for (name, number, digest), order in self._orders.items():
            if (name, number) == (model, version) and urgency > order.urgency:
                order.urgency = urgency
                self._parts.exchange.hasten(digest, urgency)

    # ------------------------------------------------------------ what the control plane tells

    def assignment_changed(self, assignment: Assignment) -> None:
        """Note what must not be evicted; the first time, clear up what a crash left."""
        first = not self._wanted.known
        self._wanted = Wanted.of(assignment)
        if first:
            wanted = self._wanted.assigned | self._wanted.prefetched
            self._parts.shelf.sweep(wanted)

    def settings_changed(self, spec: SyncSpec) -> None:
        """Follow caps, windows and budget from now on; bad ones are logged and not followed."""
        try:
            self._follow(spec)
        except Invalid as error:
            log.error("the sync settings cannot be followed: %s", error.sentence())  # noqa: TRY400  # told, not ours
        else:
            self._parts.settings.keep(spec)

    def peers_changed(self, peers: tuple[SyncPeer, ...]) -> None:
        """Share packages with these clusters from now on."""
        self._parts.exchange.peers_changed(peers)

    # ------------------------------------------------------------ what reports tell

    def progress(self, model: str, version: int) -> SyncProgress | None:
        """Return how far the transfer of a version is; None if there was none in this run."""
        for (name, number, digest), order in self._orders.items():
            if (name, number) == (model, version):
                found = self._parts.exchange.progress(digest) or SyncProgress(waiting=order.doing)
                shut = self._parts.throttle.waiting(order.urgency)
                return replace(found, waiting=shut) if shut else found
        brought = self._brought.get((model, version))
        return self._parts.exchange.finished(brought) if brought else None

    def disk(self) -> Disk:
        """Return what the disk was when it was last looked at."""
        return self._disk

    async def watch_disk(self) -> None:
        """Look at the disk now and then, for ever."""
        while True:
            with contextlib.suppress(Unavailable):
                self._disk = await asyncio.to_thread(self._parts.shelf.disk)
            await asyncio.sleep(_DISK_S)

    def figures(self) -> Figures:
        """Return the counters of this run."""
        throttle, exchange = self._parts.throttle, self._parts.exchange
        return Figures(
            moved_bytes={
                "from-origin": throttle.origin.total_bytes,
                "from-peers": throttle.peers.total_bytes,
                "to-peers": throttle.upload.total_bytes,
                "reused": self._reused_bytes,
            },
            running=len(self._orders),
            releases_refused=self._parts.gate.refused,
            bad_peers=exchange.bad_peers,
            disk=self._disk,
            scrubbed=self._parts.scrubbed,
        )

    # ------------------------------------------------------------ bringing one

    @contextlib.contextmanager
    def _ordered(self, key: Key, urgency: Urgency) -> Iterator[_Order]:
        """Show an order while it lasts; one that was cancelled may end after the next has begun."""
        order = self._orders[key] = _Order(urgency)
        try:
            yield order
        finally:
            if self._orders.get(key) is order:
                del self._orders[key]

    async def _bring(self, key: Key, order: _Order) -> Path:
        model, version, digest = key
        self._brought[model, version] = digest
        origin = self._parts.origin
        order.doing = "asks for its manifest"
        manifest = await origin.manifest(model, version, order.urgency)
        release = await origin.release(model, version, order.urgency)
        checked = await self._parts.gate.check(model, version, digest, manifest, release)
        try:
            staging = await asyncio.to_thread(
                self._parts.shelf.open, model, version, manifest, release, digest=digest
            )
        except AlreadyExists:
            return await self._found(key)
        try:
            order.doing = "looks at what is on this disk"
            await asyncio.to_thread(self._prepare, staging)
            if not staging.complete:
                offer = await origin.offer(checked, version, order.urgency, base_of=staging.base)
                await self._parts.exchange.bring(staging, offer, digest, order.urgency)
            return await asyncio.to_thread(staging.publish)
        finally:
            self._reused_bytes += staging.reused_bytes
            await asyncio.to_thread(staging.close)

    def _prepare(self, staging: Staging) -> None:
        """Use what is here, and have room for the rest. Raises Exhausted, Unavailable."""
        staging.resume()
        staging.link()
        shelf, wanted = self._parts.shelf, self._wanted
        keep: Mapping[Key, str] = protected(shelf.packages(), wanted.assigned, wanted.prefetched)
        for package in shelf.make_room(staging, keep):
            log.info("evicted %s, which was not used any more", package.title)
        staging.reuse()

    async def _found(self, key: Key) -> Path:
        path = await asyncio.to_thread(self._parts.shelf.find, *key)
        if path is None:
            raise Unavailable(f"{key[0]}@{key[1]} was there and is gone; it is tried again.")
        return path

    def _follow(self, spec: SyncSpec) -> None:
        self._parts.throttle.settings_changed(spec)
        self._parts.shelf.budget_bytes = int(spec.disk_budget_gib * GIB)
