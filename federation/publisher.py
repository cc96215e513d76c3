"""Fan-out: snapshots to routers, assignments to agents, trust to both, changes to watchers.

Input: the control loop calls the publish methods after each commit. Output: `api` subscribes, one
subscription per stream. A slow subscriber never holds up the loop: all but changes keep only the
newest value; a watcher that falls too far behind is told to list again.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from federation.contract.sync import SyncPeer, SyncSpec
from federation.contract.trust import RouterAddress, Trust
from federation.contract.types import Assignment, Snapshot

T = TypeVar("T")
HISTORY = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object changed at a store revision; `deleted` tells that it is gone."""

    revision: int
    kind: str
    name: str
    deleted: bool = False


class Latest(Generic[T]):
    """A subscription that holds only the newest value not yet taken."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._closed = ""
        self._ready = asyncio.Event()

    def __repr__(self) -> str:
        return f"Latest(waiting={self._value is not None}, closed={self._closed!r})"

    def offer(self, value: T) -> None:
        """Replace the value that waits."""
        self._value = value
        self._ready.set()

    def close(self, reason: str) -> None:
        """End the subscription: the next `take` raises Closed."""
        self._closed = reason
        self._ready.set()

    async def take(self) -> T:
        """Wait for a value newer than the last one taken; raises Closed."""
        while True:
            await self._ready.wait()
            if self._closed:
                raise Closed(self._closed)
            self._ready.clear()
            if self._value is not None:
                value, self._value = self._value, None
                return value


class Closed(Exception):
    """The publisher ended this subscription; the argument says why, in words."""


class FellBehind(Exception):
    """Changes were lost for this watcher: list again, then watch from the new revision."""


class Topic(Generic[T]):
    """One thing that all its subscribers hear of: its newest value at once, then each change."""

    def __init__(self) -> None:
        self.newest: T | None = None
        self._subscriptions: set[Latest[T]] = set()

    def __repr__(self) -> str:
        return f"Topic(subscriptions={len(self._subscriptions)})"

    def publish(self, value: T) -> None:
        """Make `value` the newest and offer it to everyone."""
        self.newest = value
        for subscription in self._subscriptions:
            subscription.offer(value)

    @contextmanager
    def subscription(self) -> Iterator[Latest[T]]:
        """Subscribe; the newest value is offered at once."""
        subscription: Latest[T] = Latest()
        if self.newest is not None:
            subscription.offer(self.newest)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)


class Topics(Generic[T]):
    """A topic for each cluster. Publishing what is the newest already tells nobody anything."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic[T]] = {}

    def __repr__(self) -> str:
        return f"Topics({len(self._topics)})"

    def newest(self, cluster: str) -> T | None:
        """Return what was published last."""
        topic = self._topics.get(cluster)
        return topic.newest if topic else None

    def publish(self, cluster: str, value: T) -> None:
        """Make `value` the newest of this cluster, if it is another."""
        topic = self._topics.setdefault(cluster, Topic())
        if topic.newest is not value and topic.newest != value:
            topic.publish(value)

    def keep_only(self, clusters: Collection[str]) -> None:
        """Forget what was published for all others."""
        for name in self._topics.keys() - set(clusters):
            del self._topics[name]

    @contextmanager
    def subscription(self, cluster: str) -> Iterator[Latest[T]]:
        """Subscribe; the newest value is offered at once."""
        with self._topics.setdefault(cluster, Topic()).subscription() as subscription:
            yield subscription


class Publisher:
    """Holds the newest snapshot, the agents' and routers' subscriptions, and recent changes."""

    def __init__(self) -> None:
        self.snapshot = Snapshot(version=0)
        self.trust: Topic[Trust] = Topic()
        self.router_addresses: Topic[tuple[RouterAddress, ...]] = Topic()
        self.sync_settings: Topics[SyncSpec] = Topics()
        self.sync_peers: Topics[tuple[SyncPeer, ...]] = Topics()
        # The subscriptions of routers, with name and certificate generation.
        self._routers: dict[Latest[Snapshot], tuple[str, int]] = {}
        self._agents: dict[str, dict[int, Latest[Assignment]]] = {}
        self._assignments: dict[str, Assignment] = {}  # the newest one published, by cluster
        self._changes: deque[Change] = deque(maxlen=HISTORY)
        self._dropped_revision = 0
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return (
            f"Publisher(snapshot={self.snapshot.version}, routers={len(self._routers)}, "
            f"agents={sorted(self._agents)}, changes={len(self._changes)})"
        )

    # -------------------------------------------------------- called by the control loop

    def begin(self, revision: int) -> None:
        """Start to count changes after `revision`: a watcher from before must list again."""
        self._changes.clear()
        self._dropped_revision = revision
        self._changed.set()
        self._changed = asyncio.Event()

    def publish_snapshot(self, snapshot: Snapshot) -> None:
        """Make `snapshot` the newest and offer it to every router."""
        self.snapshot = snapshot
        for subscription in self._routers:
            subscription.offer(snapshot)

    def close_router(self, name: str, generation: int, reason: str) -> None:
        """End the router's subscriptions that were opened with this generation and older ones."""
        for subscription, (whose, held) in self._routers.items():
            if whose == name and held <= generation:
                subscription.close(reason)

    def publish_assignment(self, assignment: Assignment) -> None:
        """Offer the desired state to the cluster's agent, now or when it subscribes."""
        self._assignments[assignment.cluster] = assignment
        for subscription in self._agents.get(assignment.cluster, {}).values():
            subscription.offer(assignment)

    def close_agent(self, cluster: str, epoch: int, reason: str) -> None:
        """End the cluster's subscriptions of this epoch and older ones."""
        for held, subscription in self._agents.get(cluster, {}).items():
            if held <= epoch:
                subscription.close(reason)

    def publish_changes(self, changes: list[Change]) -> None:
        """Tell watchers."""
        for change in changes:
            if len(self._changes) == HISTORY:
                self._dropped_revision = self._changes[0].revision
            self._changes.append(change)
        self._changed.set()
        self._changed = asyncio.Event()

    # -------------------------------------------------------- called by the API

    @contextmanager
    def router_subscription(
        self, name: str = "", generation: int = 0
    ) -> Iterator[Latest[Snapshot]]:
        """Subscribe to snapshots; the newest one is offered at once.

        `generation` is that of the certificate with which the router opened its stream.
        """
        subscription: Latest[Snapshot] = Latest()
        if self.snapshot.version:
            subscription.offer(self.snapshot)
        self._routers[subscription] = (name, generation)
        try:
            yield subscription
        finally:
            del self._routers[subscription]

    @contextmanager
    def agent_subscription(self, cluster: str, epoch: int) -> Iterator[Latest[Assignment]]:
        """Subscribe to a cluster's assignments; the newest one published is offered at once."""
        subscription: Latest[Assignment] = Latest()
        if (newest := self._assignments.get(cluster)) is not None:
            subscription.offer(newest)
        held = self._agents.setdefault(cluster, {})
        held[epoch] = subscription
        try:
            yield subscription
        finally:
            if held.get(epoch) is subscription:
                del held[epoch]
            if not held:
                self._agents.pop(cluster, None)

    def changes_after(self, revision: int) -> list[Change]:
        """Return the known changes after `revision`; raises FellBehind if some are forgotten."""
        if revision < self._dropped_revision:
            raise FellBehind
        return [change for change in self._changes if change.revision > revision]

    async def wait_for_changes(self) -> None:
        """Return after the next publish_changes."""
        await self._changed.wait()
