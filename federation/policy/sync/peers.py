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


def peers(state: State) -> Mapping[str, Peers]:
    """Return what the agent of each cluster shall know of its region."""
    regions: dict[str, list[SyncPeer]] = {}
    for name in sorted(state.clusters):
        record = state.clusters[name]
        if record.membership.valid and is_present(state, name):
            regions.setdefault(record.spec.region, []).append(_peer(record))
    told = {region: tuple(members) for region, members in regions.items()}
    return {n: told.get(record.spec.region, ()) for n, record in state.clusters.items()}


def _peer(record: ClusterRecord) -> SyncPeer:
    digests = {v.digest for v in record.assignment.versions}
    url = ""
    if record.last is not None:
        seen = record.last.observed.versions
        digests |= {v.digest for v in seen if v.state in WITH_BYTES and v.digest}
        if record.spec.connectivity is Connectivity.DIAL:
            url = record.last.url
    return SyncPeer(cluster=record.meta.name, url=url, digests=tuple(sorted(digests)))
