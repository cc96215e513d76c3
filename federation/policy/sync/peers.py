"""Which clusters of a region may fetch packages from each other, and who has what.

Input: a State. Output: for each cluster what its agent is told: all clusters of its region that are
members and in contact, itself included, because the share that each takes of the work depends on
all. Those whose connections are reversed have no URL: they fetch and do not serve.
"""

from collections.abc import Mapping

from federation.contract.sync import SyncPeer
from federation.contract.types import Connectivity
from federation.policy.records import ClusterRecord
from federation.policy.standing import WITH_BYTES, is_present
from federation.policy.state import State

Peers = tuple[SyncPeer, ...]


class Neighbours:
    """Remembers what was told, since little of it changes: equal values stay one object."""

    def __init__(self) -> None:
        self._peers: dict[str, tuple[ClusterRecord, SyncPeer]] = {}  # by cluster
        self._told: dict[str, Peers] = {}  # by region

    def __repr__(self) -> str:
        return f"Neighbours({len(self._peers)} in {len(self._told)} regions)"

    def of(self, state: State) -> Mapping[str, Peers]:
        """Return what the agent of each cluster shall know of its region."""
        regions: dict[str, list[SyncPeer]] = {}
        found: dict[str, tuple[ClusterRecord, SyncPeer]] = {}
        for name, record in sorted(state.clusters.items()):
            if record.membership.valid and is_present(state, name):
                found[name] = self._peer(name, record)
                regions.setdefault(record.spec.region, []).append(found[name][1])
        self._peers = found
        told = {region: tuple(members) for region, members in regions.items()}
        self._told = {
            region: before if (before := self._told.get(region)) == members else members
            for region, members in told.items()
        }
        return {n: self._told.get(r.spec.region, ()) for n, r in state.clusters.items()}

    def _peer(self, name: str, record: ClusterRecord) -> tuple[ClusterRecord, SyncPeer]:
        known = self._peers.get(name)
        if known is not None and known[0] is record:
            return known
        peer = _peer(record)
        return (record, known[1] if known is not None and known[1] == peer else peer)


def peers(state: State) -> Mapping[str, Peers]:
    """Return what the agent of each cluster shall know of its region."""
    return Neighbours().of(state)


def _peer(record: ClusterRecord) -> SyncPeer:
    digests = {v.digest for v in record.assignment.versions}
    url = ""
    if record.last is not None:
        seen = record.last.observed.versions
        digests |= {v.digest for v in seen if v.state in WITH_BYTES and v.digest}
        if record.spec.connectivity is Connectivity.DIAL:
            url = record.last.url
    return SyncPeer(cluster=record.meta.name, url=url, digests=tuple(sorted(digests)))
