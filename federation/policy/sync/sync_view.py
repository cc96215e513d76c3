"""How far the bytes of every model version are at every cluster, for people.

Input: a State. Output: rows for `fed get sync` and for metrics. The numbers are those of the newest
reports; after a restart of the control plane they come back with the next ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from federation.contract.sync import SyncProgress
from federation.contract.types import ObservedVersion, VersionState
from federation.policy.cluster_view import versions_of
from federation.policy.lookup import version_or_none
from federation.policy.plain import Json
from federation.policy.records import ClusterRecord
from federation.policy.standing import WITH_BYTES, assigned_versions, is_confirmed
from federation.policy.state import State

_NOTHING = SyncProgress()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRow:
    """One model version at one cluster. Bytes are those of the package.

    `urgency` is empty for what is not assigned (any more), `confirmed` tells whether the cluster is
    in contact.
    """

    model: str
    version: int
    cluster: str
    region: str
    state: VersionState
    stage_only: bool
    urgency: str
    done_bytes: int
    total_bytes: int
    progress: SyncProgress
    reason: str
    confirmed: bool

    @property
    def running(self) -> bool:
        """Whether bytes move now."""
        return self.confirmed and not self.complete and self.progress.bytes_per_second > 0

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.state in WITH_BYTES

    @property
    def behind(self) -> bool:
        """Whether the cluster shall have it and lacks some of it."""
        return bool(self.urgency) and not self.complete


def sync_rows(state: State) -> Iterator[SyncRow]:
    """Yield a row for each version at each cluster, ordered by model, version and cluster."""
    rows = (
        _row(state, record, seen)
        for record in state.clusters.values()
        for seen in versions_of(state, record)
    )
    return iter(sorted(rows, key=lambda row: (row.model, row.version, row.cluster)))


def _row(state: State, record: ClusterRecord, seen: ObservedVersion) -> SyncRow:
    name, progress = record.meta.name, seen.sync or _NOTHING
    size = _size(state, seen) or progress.total_bytes
    complete = seen.state in WITH_BYTES
    mine = assigned_versions(record, seen.model)
    assigned = next((v for v in mine if v.version == seen.version), None)
    return SyncRow(
        model=seen.model,
        version=seen.version,
        cluster=name,
        region=record.spec.region,
        state=seen.state,
        stage_only=bool(assigned and assigned.stage_only),
        urgency=assigned.urgency.name.lower() if assigned else "",
        done_bytes=size if complete else min(progress.done_bytes, size),
        total_bytes=size,
        progress=progress,
        reason="" if complete else seen.reason,
        confirmed=is_confirmed(state, name),
    )


def _size(state: State, seen: ObservedVersion) -> int:
    model = state.models.get(seen.model)
    version = version_or_none(model, seen.version) if model else None
    return version.size if version and version.digest == seen.digest else 0


def sync_document(row: SyncRow) -> Json:
    """Return a row as JSON."""
    progress, moving = row.progress, row.running
    waiting = "" if row.complete else progress.waiting
    return {
        "model": row.model,
        "version": row.version,
        "cluster": row.cluster,
        "region": row.region,
        "state": row.state.value,
        "stage_only": row.stage_only,
        "urgency": row.urgency,
        "done_bytes": row.done_bytes,
        "total_bytes": row.total_bytes,
        "bytes_per_second": progress.bytes_per_second if moving else 0.0,
        "eta_s": progress.eta_s if moving else 0.0,
        "from_origin_bytes": progress.from_origin_bytes,
        "from_peers_bytes": progress.from_peers_bytes,
        "reused_bytes": progress.reused_bytes,
        "waiting": waiting if row.confirmed else "the cluster is out of contact",
        "reason": row.reason,
    }
