"""How a prefetch stands, for people: per cluster how much is there, and what cannot be, and why.

Input: a State and a PrefetchRecord. Output: the status of its document.
"""

from datetime import datetime

from federation.contract.types import ObservedVersion
from federation.policy import lookup
from federation.policy.cluster_view import trouble, versions_of
from federation.policy.placement import judge_staging
from federation.policy.plain import Json
from federation.policy.records import ClusterRecord
from federation.policy.rooms import Rooms
from federation.policy.standing import assigned_versions, is_confirmed
from federation.policy.state import State
from federation.policy.sync.records import PrefetchRecord
from federation.policy.sync.staging import READY, Staging


def prefetch_status(state: State, record: PrefetchRecord, now: datetime) -> Json:
    """Return the status of a prefetch's document.

    `wanted` counts the selected clusters that were given the version (to stage or to serve),
    `ready_at` those of them that are in contact and have all of it, verified.
    """
    spec = record.spec
    version = lookup.version(state.models[spec.model], spec.version)
    staging = Staging(spec=spec, version=version)
    clusters, cannot, rooms = [], [], Rooms(state)
    for name in sorted(state.clusters):
        cluster = state.clusters[name]
        if not staging.selects(cluster):
            continue
        if any(v.version == spec.version for v in assigned_versions(cluster, spec.model)):
            clusters.append(_standing(state, cluster, staging, now))
        elif reason := judge_staging(rooms[name], version, spec.model).reason:
            cannot.append({"cluster": name, "reason": reason})
    ready_at = sum(each["ready"] for each in clusters)
    ready = ready_at == len(clusters) > 0
    return {
        "digest": version.digest,
        "size": version.size,
        "ready": ready,
        "reason": "" if ready else _reason(ready_at, len(clusters)),
        "ready_at": ready_at,
        "wanted": len(clusters),
        "clusters": clusters,
        "cannot": cannot,
    }


def _standing(state: State, cluster: ClusterRecord, staging: Staging, now: datetime) -> Json:
    name, confirmed = cluster.meta.name, is_confirmed(state, cluster.meta.name)
    seen = next(v for v in versions_of(state, cluster) if _is_of(v, staging))
    done = seen.state in READY
    progress = seen.sync
    return {
        "cluster": name,
        "region": cluster.spec.region,
        "state": seen.state.value,
        "ready": done and confirmed,
        "done_bytes": staging.version.size if done else progress.done_bytes if progress else 0,
        "reason": ("" if confirmed else trouble(state, cluster, now))
        or seen.reason
        or (progress.waiting if progress else ""),
    }


def _is_of(seen: ObservedVersion, staging: Staging) -> bool:
    return (seen.model, seen.version) == (staging.spec.model, staging.spec.version)


def _reason(ready_at: int, wanted: int) -> str:
    if not wanted:
        return "no cluster was given it"
    return f"it is ready at {ready_at} of {wanted} clusters"
