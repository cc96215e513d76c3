"""How a cluster stands, for people: ready or not and why, engine, GPUs, lease, models.

Input: a State and a ClusterRecord. Output: the status of its document.
"""

from datetime import datetime

from federation.contract.sync import Disk
from federation.contract.types import (
    EngineKind,
    EngineStatus,
    ObservedVersion,
    Scheduling,
    VersionState,
)
from federation.policy.capacity_view import (
    capacity_age_s,
    capacity_seen,
    capacity_status,
    gpu_products,
    version_load,
)
from federation.policy.membership.records import RouterRecord
from federation.policy.plain import Json, moment
from federation.policy.records import ClusterRecord
from federation.policy.rooms import Rooms
from federation.policy.standing import (
    assigned_versions,
    capacity_trouble,
    is_present,
    room_bytes,
    warm_versions,
)
from federation.policy.state import State


def cluster_status(state: State, record: ClusterRecord, now: datetime) -> Json:
    """Return the status of a cluster's document."""
    name, last = record.meta.name, record.last
    presence = state.presences.get(name)
    engine = engine_of(state, record)
    capacity, _ = capacity_seen(state, record)
    reason = trouble(state, record, now)
    reported_at = presence.reported_at if presence else None
    left_s = (presence.expires_at - now).total_seconds() if presence else 0.0
    return {
        "ready": not reason,
        "reason": reason,
        "scheduling": record.scheduling.value,
        **membership_status(record),
        "connectivity": record.spec.connectivity.value,
        "engine": {
            "kind": engine.kind.value,
            "version": engine.version,
            "ready": engine.ready,
            "reason": engine.reason,
        },
        "url": last.url if last else "",
        "gpus": capacity.gpus,
        "gpu_products": gpu_products(capacity),
        "capacity": capacity_status(state, record, now),
        "lease": {
            "epoch": record.epoch,
            "expires_in_s": round(max(left_s, 0.0), 1),
            "connected": presence is not None and presence.connected,
        },
        "last_report_s": round((now - reported_at).total_seconds(), 1) if reported_at else None,
        "models": _model_counts(record),
        "disk": _disk(state, record),
        "versions": [_version(record, v) for v in versions_of(state, record)],
        "rtt_ms": {
            router.name: router.clusters[name].rtt_ms
            for router in state.routers.values()
            if name in router.clusters and router.clusters[name].rtt_ms
        },
        "conditions": [
            *_conditions(state, record, engine, reason),
            _capacity_condition(state, record, now),
            _room_condition(state, record),
        ],
    }


def membership_status(record: ClusterRecord | RouterRecord) -> Json:
    """Return how a cluster's or router's membership stands."""
    membership, ticket = record.membership, record.ticket
    waits = membership.generation > 0 and not membership.accepted and not membership.revoked
    return {
        "joined": membership.generation > 0,
        "accepted": membership.accepted,
        "revoked": membership.revoked,
        "joined_at": moment(membership.joined_at) if membership.joined_at else None,
        "certificate_generation": membership.generation,
        # Whom an operator lets in: the fingerprint that the peer itself logs.
        "waiting_key_sha256": ticket.used_by if ticket and waits else "",
    }


def _no_member(record: ClusterRecord) -> str:
    if record.membership.revoked:
        return "its membership was revoked"
    if not record.membership.generation:
        return "its agent has not joined yet"
    return f"it waits for an operator: fed cluster accept {record.meta.name}"


def engine_of(state: State, record: ClusterRecord) -> EngineStatus:
    """Return the newest that is known of the cluster's engine."""
    if (report := state.reports.get(record.meta.name)) is not None:
        return report.observed.engine
    return record.last.observed.engine if record.last else EngineStatus(kind=EngineKind.UNKNOWN)


def trouble(state: State, record: ClusterRecord, now: datetime) -> str:
    """Return why a cluster is not ready, in words; empty if it is."""
    if not record.membership.valid:
        return _no_member(record)
    presence = state.presences.get(record.meta.name)
    if presence is None or not presence.present:
        if presence is None or presence.reported_at is None:
            return "nothing was heard of its agent since the control plane started"
        return f"no report for {(now - presence.reported_at).total_seconds():.0f} s"
    if presence.sequence == 0:
        return "waiting for the first report of its agent"
    engine = engine_of(state, record)
    if not engine.ready:
        return f"engine {engine.kind}: {engine.reason or 'not ready'}"
    return ""


def versions_of(state: State, record: ClusterRecord) -> list[ObservedVersion]:
    """Return the versions that a cluster reports, and those that it was given since."""
    report = state.reports.get(record.meta.name)
    observed = report.observed if report else (record.last.observed if record.last else None)
    seen = {(v.model, v.version): v for v in (observed.versions if observed else ())}
    for assigned in record.assignment.versions:
        key = (assigned.model, assigned.version)
        if key not in seen or seen[key].digest != assigned.digest:
            seen[key] = ObservedVersion(
                model=assigned.model,
                version=assigned.version,
                digest=assigned.digest,
                state=VersionState.PENDING,
                reason="assigned, not reported yet",
            )
    return [seen[key] for key in sorted(seen)]


def _version(record: ClusterRecord, seen: ObservedVersion) -> Json:
    return {
        "model": seen.model,
        "version": seen.version,
        "state": seen.state.value,
        "reason": seen.reason,
        "stage_only": any(
            v.stage_only and v.version == seen.version
            for v in assigned_versions(record, seen.model)
        ),
        **version_load(seen),
    }


def _disk(state: State, record: ClusterRecord) -> Json:
    """Return where the cluster keeps packages; `room_bytes`, what they may take, may be unknown."""
    report = state.reports.get(record.meta.name)
    disk = report.disk if report else record.last.disk if record.last else Disk()
    return {
        "used_bytes": disk.used_bytes,
        "free_bytes": disk.free_bytes,
        "budget_bytes": disk.budget_bytes,
        "room_bytes": room_bytes(record),
    }


def _model_counts(record: ClusterRecord) -> Json:
    if record.last and record.last.engine is EngineKind.STATIC:
        states = [v.state for v in record.last.observed.versions]
        warm = states.count(VersionState.WARMED)
        return {"warm": warm, "assigned": len(states), "staged": 0}
    staged = sum(v.stage_only for v in record.assignment.versions)
    return {
        "warm": sum(1 for _ in warm_versions(record)),
        "assigned": len(record.assignment.versions) - staged,
        "staged": staged,
    }


def _conditions(
    state: State, record: ClusterRecord, engine: EngineStatus, reason: str
) -> list[Json]:
    joined, present = record.membership.valid, is_present(state, record.meta.name)
    counts = _model_counts(record)
    synced = counts["warm"] >= counts["assigned"]
    active = record.scheduling is Scheduling.ACTIVE
    return [
        _condition("Ready", not reason, "Ready", "NotReady", reason),
        _condition("Joined", joined, "AgentJoined", "NoAgent", _no_member(record)),
        _condition("InContact", present, "LeaseHeld", "LeaseOver", "its lease is over"),
        _condition("EngineReady", engine.ready, "EngineReady", "EngineNotReady", engine.reason),
        _condition(
            "ModelsSynced",
            synced,
            "AllWarm",
            "SomeNotWarm",
            f"{counts['warm']} of {counts['assigned']} versions are warm",
        ),
        _condition(
            "Schedulable",
            active,
            "Active",
            record.scheduling.value.capitalize(),
            "set by an operator",
        ),
    ]


def _capacity_condition(state: State, record: ClusterRecord, now: datetime) -> Json:
    """Whether what is known of the devices can be relied on; nothing is added where it cannot."""
    trouble, age_s = capacity_trouble(record), capacity_age_s(state, record, now)
    seen = f" (seen {age_s:.0f} s ago)" if age_s is not None else ""
    return _condition(
        "CapacityCurrent", not trouble, "Current", "CapacityStale", f"{trouble}{seen}"
    )


def _room_condition(state: State, record: ClusterRecord) -> Json:
    """Whether all that was given to it fits. Nothing goes by itself where it does not."""
    over = Rooms(state)[record.meta.name].overcommitted()
    return _condition("RoomSuffices", not over, "Fits", "Overcommitted", over)


def _condition(kind: str, met: bool, yes: str, no: str, message: str) -> Json:  # noqa: FBT001
    return {
        "type": kind,
        "status": "True" if met else "False",
        "reason": yes if met else no,
        "message": "" if met else message,
    }
