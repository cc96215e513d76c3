"""How a deployment stands, for people: per cluster what is there, what cannot be there, and why.

Input: a State and a DeploymentRecord. Output: the status of its document.
"""

from datetime import datetime

from federation.contract.types import ObservedVersion, VersionState
from federation.policy.autoscaling import work_of
from federation.policy.choosing import choose
from federation.policy.cluster_view import trouble, versions_of
from federation.policy.obstacles import Obstacle, obstacles
from federation.policy.placement import Wish
from federation.policy.plain import Json, moment
from federation.policy.records import ClusterRecord, DeploymentRecord
from federation.policy.rooms import Rooms
from federation.policy.scaling import load_of
from federation.policy.settle import wish_in
from federation.policy.standing import (
    assigned_versions,
    is_confirmed,
    serving_versions,
    warm_versions,
)
from federation.policy.state import State


def deployment_status(
    state: State, record: DeploymentRecord, now: datetime, rooms: Rooms | None = None
) -> Json:
    """Return the status of a deployment's document.

    `wanted` counts the chosen clusters that were given its version, `warm` those of them that are
    in contact and have it warm. It is ready when these are equal, as many as it asks for, and
    requests go to that version, and so it is while it sleeps. Who asks about many deployments at
    once shares the `rooms`.
    """
    wish, rooms = wish_in(state, record), rooms or Rooms(state)
    chosen = choose(wish, rooms)
    cannot = obstacles(wish, rooms, chosen)
    clusters, wanted, warm = [], 0, 0
    for name in sorted(chosen | rooms.holders(wish.spec.model)):
        cluster = state.clusters[name]
        if versions := _versions(state, wish, cluster, now, leaves=name not in chosen):
            region = cluster.spec.region
            clusters.append({"cluster": name, "region": region, "versions": versions})
        if name in chosen and _has_target(wish, cluster):
            wanted += 1
            warm += is_confirmed(state, name) and _target_is_warm(wish, cluster)
    ready = record.asleep or (
        warm == wanted >= max(wish.spec.clusters, 1) and record.routed_version == wish.target
    )
    return {
        "version": wish.target,
        "routed_version": record.routed_version,
        "ready": ready,
        "reason": _reason(record, wish, wanted=wanted, warm=warm, ready=ready),
        "rollout": next(reversed(state.going.get(record.spec.model, ())), ""),
        "rejected": record.rejected,
        "asleep_since": moment(since) if (since := record.asleep_since) and record.asleep else None,
        "clusters": clusters,
        "cannot": [_plain(each) for each in cannot],
        "warm": warm,
        "wanted": wanted,
    }


def _plain(obstacle: Obstacle) -> Json:
    return {"cluster": obstacle.cluster, "reason": obstacle.reason}


def _has_target(wish: Wish, cluster: ClusterRecord) -> bool:
    return any(v.version == wish.target for v in serving_versions(cluster, wish.spec.model))


def _target_is_warm(wish: Wish, cluster: ClusterRecord) -> bool:
    return any(v.version == wish.target for v in warm_versions(cluster, wish.spec.model))


def _versions(
    state: State, wish: Wish, cluster: ClusterRecord, now: datetime, *, leaves: bool
) -> list[Json]:
    """Return what a cluster has, or shall have, of the deployment's model."""
    given = assigned_versions(cluster, wish.spec.model)
    mine = {v.version: v for v in given if v.asleep or not v.stage_only}
    if not mine:
        return []
    silent = "" if is_confirmed(state, cluster.meta.name) else trouble(state, cluster, now)
    return [
        {
            "version": seen.version,
            "state": seen.state.value,
            "replicas": seen.replicas,
            "given": mine[seen.version].replicas,
            "max_replicas": mine[seen.version].max_replicas,
            "busy": None if silent else _busy(seen),
            "reason": silent
            or seen.reason
            or ("it goes when another cluster has taken over" if leaves else ""),
        }
        for seen in versions_of(state, cluster)
        if seen.model == wish.spec.model and seen.version in mine
    ]


def _busy(seen: ObservedVersion) -> float | None:
    if seen.state is not VersionState.WARMED or not seen.replicas:
        return None
    return round(work_of(load_of(seen)) / seen.replicas, 3)


def _reason(record: DeploymentRecord, wish: Wish, *, wanted: int, warm: int, ready: bool) -> str:
    if record.asleep_since and record.asleep:
        return (
            f"it sleeps since {record.asleep_since:%F %T} UTC, because nobody used it for "
            f"{wish.spec.scaling.down_s:g} s; the first request wakes it"
        )
    if ready:
        return ""
    if not wanted:
        return f"no cluster was given version {wish.target}"
    if wanted < wish.spec.clusters:
        return (
            f"version {wish.target} has a place at {wanted} of the {wish.spec.clusters} clusters "
            f"asked for, and is warm at {warm}"
        )
    if warm < wanted:
        return f"version {wish.target} is warm at {warm} of {wanted} clusters"
    return f"requests still go to version {record.routed_version}"
