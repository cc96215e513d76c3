"""How a deployment stands, for people: per cluster what is there, what cannot be there, and why.

Input: a State and a DeploymentRecord. Output: the status of its document.
"""

from datetime import datetime

from federation.policy.cluster_view import trouble, versions_of
from federation.policy.placement import Wish, not_selected, reasons, wish_of
from federation.policy.plain import Json
from federation.policy.records import ClusterRecord, DeploymentRecord
from federation.policy.standing import is_confirmed, serving_versions, warm_versions
from federation.policy.state import State


def deployment_status(state: State, record: DeploymentRecord, now: datetime) -> Json:
    """Return the status of a deployment's document.

    `wanted` counts the selected clusters that were given its version, `warm` those of them that are
    in contact and have it warm. It is ready when these are equal and requests go to that version.
    """
    wish = wish_of(record, state.models[record.spec.model])
    clusters, cannot, wanted, warm = [], [], 0, 0
    for name in sorted(state.clusters):
        cluster = state.clusters[name]
        selected = not not_selected(wish.spec, cluster.spec)
        if selected and (words := reasons(wish, cluster)):
            cannot.append({"cluster": name, "reason": "; ".join(words)})
        if versions := _versions(state, wish, cluster, now):
            region = cluster.spec.region
            clusters.append({"cluster": name, "region": region, "versions": versions})
        if selected and _has_target(wish, cluster):
            wanted += 1
            warm += is_confirmed(state, name) and _target_is_warm(wish, cluster)
    ready = warm == wanted > 0 and record.routed_version == wish.target
    return {
        "version": wish.target,
        "routed_version": record.routed_version,
        "ready": ready,
        "reason": "" if ready else _reason(record, wish, wanted=wanted, warm=warm),
        "clusters": clusters,
        "cannot": cannot,
        "warm": warm,
        "wanted": wanted,
    }


def _has_target(wish: Wish, cluster: ClusterRecord) -> bool:
    return any(v.version == wish.target for v in serving_versions(cluster, wish.spec.model))


def _target_is_warm(wish: Wish, cluster: ClusterRecord) -> bool:
    return any(v.version == wish.target for v in warm_versions(cluster, wish.spec.model))


def _versions(state: State, wish: Wish, cluster: ClusterRecord, now: datetime) -> list[Json]:
    """Return what a cluster has, or shall have, of the deployment's model."""
    mine = {v.version for v in serving_versions(cluster, wish.spec.model)}
    silent = "" if is_confirmed(state, cluster.meta.name) else trouble(state, cluster, now)
    leaves = bool(not_selected(wish.spec, cluster.spec))
    return [
        {
            "version": seen.version,
            "state": seen.state.value,
            "reason": silent
            or seen.reason
            or ("it goes when another cluster has taken over" if leaves else ""),
        }
        for seen in versions_of(state, cluster)
        if seen.model == wish.spec.model and seen.version in mine
    ]


def _reason(record: DeploymentRecord, wish: Wish, *, wanted: int, warm: int) -> str:
    if not wanted:
        return f"no cluster was given version {wish.target}"
    if warm < wanted:
        return f"version {wish.target} is warm at {warm} of {wanted} clusters"
    return f"requests still go to version {record.routed_version}"
