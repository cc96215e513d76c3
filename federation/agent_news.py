"""What agents are told besides their assignments: how to fetch, and with whom to share.

Input: the State, after each commit that may have changed it. Output: the publisher's topics, one
for each cluster; only what is new is published. Who has what changes with every transfer, so it is
looked at once a second at most.
"""

from datetime import datetime, timedelta

from federation.contract.sync import SyncSpec
from federation.policy.state import State
from federation.policy.sync.peers import Neighbours
from federation.publisher import Publisher

PAUSE = timedelta(seconds=1)


class AgentNews:
    """Compares what agents know with what is, and tells the difference."""

    def __init__(self, publisher: Publisher, *, pause: timedelta = PAUSE) -> None:
        self._settings = publisher.sync_settings
        self._peers = publisher.sync_peers
        self._pause = pause
        self._told: dict[str, SyncSpec] = {}  # by cluster
        self._looked_at: datetime | None = None
        self._neighbours = Neighbours()

    def __repr__(self) -> str:
        return f"AgentNews(settings={self._settings!r}, peers={self._peers!r})"

    def tell(self, state: State, now: datetime) -> datetime | None:
        """Publish what is new; returns when to look at the peers again, None = they are told."""
        for name, record in state.clusters.items():
            if self._told.get(name) is not record.spec.sync:  # the same value is told to nobody
                self._told[name] = record.spec.sync
                self._settings.publish(name, record.spec.sync)
        if self._told.keys() != state.clusters.keys():
            self._told = {n: spec for n, spec in self._told.items() if n in state.clusters}
        self._settings.keep_only(state.clusters)
        self._peers.keep_only(state.clusters)
        # A clock that was set back must not silence us.
        if self._looked_at and self._looked_at <= now < self._looked_at + self._pause:
            return self._looked_at + self._pause
        self._looked_at = now
        for name, told in self._neighbours.of(state).items():
            self._peers.publish(name, told)
        return None
