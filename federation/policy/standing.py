"""How a cluster stands now: present, confirmed, routable, and which versions are warm there.

Input: a State. Output: plain answers, shared by placement, routing, snapshot and views, so that all
of them mean the same by these words.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from federation.contract.sync import Disk
from federation.contract.types import (
    AssignedVersion,
    Connectivity,
    ObservedVersion,
    Scheduling,
    Urgency,
    VersionState,
)
from federation.policy.records import ClusterRecord, VersionRecord
from federation.policy.state import State

# All bytes are on disk in these states.
WITH_BYTES = frozenset(
    {
        VersionState.STAGED,
        VersionState.VERIFIED,
        VersionState.LOADED,
        VersionState.WARMED,
        VersionState.DRAINING,
        VersionState.CACHED,
    }
)


def apart(state: State) -> dict[str, frozenset[str]]:
    """Return the models that must not be where a model is, whichever of the two says so."""
    found: dict[str, frozenset[str]] = {}
    for deployment in state.deployments.values():
        model = deployment.spec.model
        for other in deployment.spec.anti_affinity:
            found[model] = found.get(model, frozenset()) | {other}
            found[other] = found.get(other, frozenset()) | {model}
    return found


def is_present(state: State, cluster: str) -> bool:
    """Whether the cluster holds a lease (after a restart: whether its grace is not over)."""
    presence = state.presences.get(cluster)
    return presence is not None and presence.present


def is_confirmed(state: State, cluster: str) -> bool:
    """Whether the cluster is present and has reported since its agent connected."""
    presence = state.presences.get(cluster)
    return presence is not None and presence.present and presence.sequence > 0


def is_up_to_date(state: State, record: ClusterRecord) -> bool:
    """Whether the newest report is about the newest assignment.

    An older report may still call a version warm that its agent is about to unload.
    """
    report = state.reports.get(record.meta.name)
    return (
        report is not None
        and is_confirmed(state, record.meta.name)
        and report.observed.observed_generation >= record.assignment.generation
    )


def is_routable(record: ClusterRecord) -> bool:
    """Whether routers may send requests there at all."""
    return (
        record.membership.valid
        and record.scheduling is not Scheduling.DRAINING
        and record.last is not None
        and (bool(record.last.url) or record.spec.connectivity is Connectivity.REVERSE)
    )


def is_warm(record: ClusterRecord, wanted: AssignedVersion) -> bool:
    """Whether exactly this content answered a warm-up inference at the cluster."""
    if record.last is None:
        return False
    versions = record.last.observed.versions
    index = bisect_left(versions, (wanted.model, wanted.version), key=_order)
    if index == len(versions):
        return False
    seen = versions[index]
    return seen.state is VersionState.WARMED and (seen.model, seen.version, seen.digest) == (
        wanted.model,
        wanted.version,
        wanted.digest,
    )


def has_bytes(record: ClusterRecord, version: VersionRecord) -> bool:
    """Whether all bytes of a version were on the cluster's disk when it last told of a change."""
    seen = record.last.observed.versions if record.last else ()
    return any(each.digest == version.digest and each.state in WITH_BYTES for each in seen)


def room_bytes(record: ClusterRecord) -> int | None:
    """Return how many bytes packages may take at the cluster, all together; None = not known."""
    disk = record.last.disk if record.last else Disk()
    budget = int(record.spec.sync.disk_budget_gib * 2**30)
    bounds = (budget, disk.budget_bytes, disk.used_bytes + disk.free_bytes)
    return min((bound for bound in bounds if bound), default=None)


def capacity_trouble(record: ClusterRecord) -> str:
    """Return why what is known of the cluster's devices cannot be relied on, in words; empty = it
    can. What it has stays; nothing that needs devices is added."""
    return record.last.stale if record.last else ""


def assigned_versions(record: ClusterRecord, model: str) -> tuple[AssignedVersion, ...]:
    """Return the assigned versions of one model, ordered by number."""
    versions = record.assignment.versions
    first, last = model_span(versions, model)
    return versions[first:last]


def model_span(versions: Sequence[AssignedVersion], model: str) -> tuple[int, int]:
    """Return where the versions of one model begin and end in those of an assignment."""
    first, last = 0, len(versions)
    while first < last:  # as `bisect` does; its key would be made for each look
        middle = (first + last) // 2
        if versions[middle].model < model:
            first = middle + 1
        else:
            last = middle
    while last < len(versions) and versions[last].model == model:
        last += 1
    return first, last


def reserved(version: AssignedVersion) -> int:
    """Return for how many replicas of a version room is counted: for all that its engine may
    start."""
    return max(version.replicas, version.max_replicas)


def keeps_room(version: AssignedVersion) -> bool:
    """Whether GPUs are counted for a version: where it is loaded, or waits for its predecessor to
    be unloaded (a rollout in place)."""
    return not version.stage_only or (
        version.replicas > 0 and version.urgency is not Urgency.PREFETCH
    )


def serving_versions(record: ClusterRecord, model: str) -> tuple[AssignedVersion, ...]:
    """Return those of the assigned versions of one model that are to be loaded."""
    return tuple(v for v in assigned_versions(record, model) if not v.stage_only)


def warm_versions(record: ClusterRecord, model: str | None = None) -> Iterator[AssignedVersion]:
    """Yield the assigned versions (of one model, or of all) that are warm at the cluster and stay
    so."""
    for assigned in (
        record.assignment.versions if model is None else assigned_versions(record, model)
    ):
        if not assigned.stage_only and is_warm(record, assigned):
            yield assigned


def _order(version: AssignedVersion | ObservedVersion) -> tuple[str, int]:
    """How assignments and what a record keeps of reports are ordered: a search need not scan."""
    return version.model, version.version
