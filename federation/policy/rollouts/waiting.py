"""What a rollout waits for: clusters of its waves, and routers.

Input: the State and a RolloutRecord. Output: words for what is missing, empty when nothing is.

Clusters out of contact are not waited for, as long as others of their region have the canary: they
keep what they have and converge when they return. A region of which nobody is in contact holds the
rollout: its clusters may serve, and would be left without a version that routers ask for.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from federation.contract.types import ObservedVersion, Scheduling, VersionState
from federation.policy.records import ClusterRecord
from federation.policy.rollouts.placing import has_golden
from federation.policy.rollouts.records import RolloutRecord
from federation.policy.standing import (
    assigned_versions,
    is_confirmed,
    is_present,
    is_up_to_date,
    is_warm,
)
from federation.policy.state import State

ROUTER_S = 10.0  # routers get so long to take a snapshot, and agents to unload six times as long
_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The clusters of the waves that have begun: where the canary is warm, where it is awaited,
    and which are `missing` without being waited for; in words by cluster."""

    warm: tuple[str, ...] = ()
    awaited: dict[str, str]
    missing: dict[str, str]


def members(state: State, record: RolloutRecord) -> Members:
    """Return how the clusters of the waves that have begun stand."""
    warm: list[str] = []
    awaited: dict[str, str] = {}
    missing: dict[str, str] = {}
    idle: dict[str, str] = {}  # regions where nobody can be waited for, and has to
    for wave in record.entered:
        for name in wave.clusters:
            cluster = state.clusters.get(name)
            if cluster is None or not _takes_part(cluster):
                continue
            region = cluster.spec.region
            if not is_present(state, name):
                missing[name] = "out of contact"
                idle[region] = name
            elif words := _lack(state, cluster, record):
                if cluster.scheduling is Scheduling.CORDONED:
                    missing[name] = "cordoned"
                    idle[region] = name
                else:
                    awaited[name] = words
            else:
                warm.append(name)
    served = {state.clusters[name].spec.region for name in (*warm, *awaited)}
    for region in idle.keys() - served:
        awaited[idle[region]] = f"{missing[idle[region]]}, as all of region {region!r}"
    return Members(warm=tuple(warm), awaited=awaited, missing=missing)


def _takes_part(cluster: ClusterRecord) -> bool:
    return cluster.membership.valid and cluster.scheduling is not Scheduling.DRAINING


def _lack(state: State, cluster: ClusterRecord, record: RolloutRecord) -> str:
    """Return what a cluster in contact lacks to serve the canary, in words."""
    given = assigned_versions(cluster, record.spec.model)
    if not given:
        return ""  # the deployment does not want it there any more
    held = next((v for v in given if v.version == record.canary), None)
    if held is None:
        return "has no room for it"
    if held.stage_only:
        return f"version {record.stable} goes first"
    if not is_confirmed(state, cluster.meta.name) or not is_up_to_date(state, cluster):
        return "has not told yet"
    found = seen(state, cluster.meta.name, record)
    if is_warm(cluster, held):
        return "is asked its golden inputs" if _asks_golden(state, record, found) else ""
    return f"{found.state}{f': {found.reason}' if found.reason else ''}" if found else "begins"


def _asks_golden(state: State, record: RolloutRecord, found: ObservedVersion | None) -> bool:
    """Whether the canary is still to be asked before it may have traffic."""
    return has_golden(state, record) and found is not None and found.golden is None


def seen(state: State, cluster: str, record: RolloutRecord) -> ObservedVersion | None:
    """Return the canary as a cluster told of it last."""
    report = state.reports.get(cluster)
    versions = report.observed.versions if report else ()
    wanted = (record.spec.model, record.canary)
    return next((v for v in versions if (v.model, v.version) == wanted), None)


def told(words: dict[str, str]) -> str:
    """Return who is waited for, in words."""
    shown = "; ".join(f"{name}: {why}" for name, why in sorted(words.items())[:_SHOWN])
    more = len(words) - _SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown


def routers_have(state: State, record: RolloutRecord, now: datetime) -> bool:
    """Whether all routers in contact have the record's present weights, or had time to take them.

    After a start of the control plane, routers get as long to come back.
    """
    patience = timedelta(seconds=ROUTER_S)
    if now - record.since >= patience:
        return True
    version, revision = state.published
    name = record.meta.name
    if revision < record.meta.resource_version and name not in state.rollout_sent:
        return False
    wanted = state.rollout_sent.setdefault(name, version)
    connected = [router for router in state.routers.values() if router.connected]
    if not connected and (state.started_at is None or now - state.started_at < patience):
        return False
    return all(router.snapshot_version >= wanted for router in connected)


def canary_left(state: State, record: RolloutRecord) -> list[str]:
    """Return the clusters in contact whose engine may have the canary still."""
    found = []
    gone = (VersionState.CACHED, VersionState.FAILED, VersionState.STAGED, VersionState.VERIFIED)
    for wave in record.entered:
        for name in wave.clusters:
            cluster = state.clusters.get(name)
            if cluster is None or not is_present(state, name):
                continue
            kept = assigned_versions(cluster, record.spec.model)
            if any(v.version == record.canary for v in kept):
                continue  # it is wanted there for another reason
            held = seen(state, name, record)
            settled = is_up_to_date(state, cluster)
            if not settled or (held is not None and held.state not in gone):
                found.append(name)
    return found
