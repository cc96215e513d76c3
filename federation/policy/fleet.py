"""Regions and clusters: what people wish.

Input: events from the operator API. Output: records and commands in the Step; refusals as errors,
raised before anything changed. The live side of a cluster (leases, reports) is in `leases`.
"""

import math
from dataclasses import replace

from federation.contract.errors import AlreadyExists, Conflict, Invalid
from federation.contract.names import check_name
from federation.contract.resources import ClusterSpec, RegionSpec
from federation.contract.rollout_rules import check_freeze
from federation.contract.spiffe import PeerRole
from federation.contract.sync import SyncSpec
from federation.contract.sync_rules import check_sync, window_text
from federation.contract.types import Assignment, Connectivity, Scheduling
from federation.policy import lookup
from federation.policy.access import tenants
from federation.policy.events import (
    Applied,
    ClusterApplied,
    ClusterRegistered,
    ClusterSchedulingChanged,
    ObjectRemoved,
    RegionApplied,
)
from federation.policy.membership.members import end_streams
from federation.policy.membership.records import JoinTicket
from federation.policy.membership.revoking import revoke
from federation.policy.plain import plain
from federation.policy.records import ClusterRecord, RegionRecord
from federation.policy.rollouts.ongoing import look_for
from federation.policy.settle import settle
from federation.policy.state import Step

_SCHEDULING_WORDS = {
    Scheduling.ACTIVE: "takes traffic and new models",
    Scheduling.CORDONED: "keeps its traffic and gets no new models",
    Scheduling.DRAINING: "gets neither traffic nor models; what it has loaded stays loaded",
}


def region_applied(step: Step, event: RegionApplied) -> Applied:
    """Create a region or change where it is."""
    check_name("region", event.name)
    _check_location(event.spec)
    check_freeze(event.spec.freeze, event.spec.time_zone)
    old = step.state.regions.get(event.name)
    lookup.check_expected("Region", event.name, old.meta if old else None, event.expected)
    if old and old.spec == event.spec:
        return Applied(kind="Region", name=event.name)
    meta = step.next_meta(old.meta, spec_changed=True) if old else step.new_meta(event.name)
    step.put("Region", RegionRecord(meta=meta, spec=event.spec))
    if old and (old.spec.freeze, old.spec.time_zone) != (event.spec.freeze, event.spec.time_zone):
        look_for(step, set(step.state.going))  # what was frozen may go on
    place = f"{event.spec.location.latitude:g}, {event.spec.location.longitude:g}"
    reason, verb = ("RegionChanged", "moved to") if old else ("RegionCreated", "created at")
    step.audit("Region", event.name, reason, f"region {event.name!r} was {verb} {place}.")
    step.publish()
    return Applied(kind="Region", name=event.name, created=old is None)


def _check_location(spec: RegionSpec) -> None:
    latitude, longitude = spec.location.latitude, spec.location.longitude
    finite = math.isfinite(latitude) and math.isfinite(longitude)
    if not finite or abs(latitude) > 90 or abs(longitude) > 180:
        raise Invalid(
            f"{latitude}, {longitude} is no place on Earth.",
            hint="Latitude is -90 to 90, longitude -180 to 180, in degrees.",
        )


def region_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Delete a region that nothing uses."""
    record = lookup.region(step.state, event.name)
    lookup.check_expected("Region", event.name, record.meta, event.expected)
    clusters = [n for n, c in step.state.clusters.items() if c.spec.region == event.name]
    deployments = [
        name
        for name, d in step.state.deployments.items()
        if event.name in (*d.spec.regions, *d.spec.residency)
    ]
    prefetches = [n for n, p in step.state.prefetches.items() if event.name in p.spec.regions]
    residing = tenants.residing(step.state, event.name)
    for kind, users in (
        ("clusters", clusters),
        ("deployments", deployments),
        ("prefetches", prefetches),
        ("tenants", residing),
    ):
        if users:
            raise Conflict(
                f"region {event.name!r} is used by {kind} {', '.join(sorted(users))}.",
                hint="Move or delete them first.",
                reason="in-use",
            )
    step.delete("Region", event.name)
    step.audit("Region", event.name, "RegionDeleted", f"region {event.name!r} was deleted.")
    return Applied(kind="Region", name=event.name)


def cluster_registered(step: Step, event: ClusterRegistered) -> Applied:
    """Register a cluster, or let a known one join anew; its agent then joins with the token."""
    check_name("cluster", event.name)
    ticket = JoinTicket(
        token_sha256=event.token_sha256,
        expires_at=event.token_expires_at,
        require_accept=event.require_accept,
    )
    if event.rejoin:
        return _rejoin(step, event, ticket)
    if event.name in step.state.clusters:
        raise AlreadyExists(
            f"cluster {event.name!r} is registered already.",
            hint="To let it join anew, on another machine for example: "
            f"fed cluster register {event.name} --rejoin",
        )
    lookup.region(step.state, event.spec.region)
    _check_cluster(event.spec)
    meta = step.new_meta(event.name)
    # Epochs and generations start at the revision and not at 0: a cluster that is deleted and
    # registered again can never meet numbers that its predecessor gave out.
    start = meta.resource_version
    assignment = Assignment(cluster=event.name, generation=start)
    record = ClusterRecord(
        meta=meta, spec=event.spec, ticket=ticket, epoch=start, assignment=assignment
    )
    step.put("Cluster", record)
    step.audit(
        "Cluster",
        event.name,
        "ClusterRegistered",
        f"cluster {event.name!r} was registered in region {event.spec.region!r}.",
    )
    return Applied(kind="Cluster", name=event.name, created=True)


def _rejoin(step: Step, event: ClusterRegistered, ticket: JoinTicket) -> Applied:
    """Hand out a new ticket; the old certificate works until somebody joins with the new one."""
    record = lookup.cluster(step.state, event.name)
    spec = event.spec if event.spec.region else record.spec
    lookup.region(step.state, spec.region)
    _check_cluster(spec)
    meta = step.next_meta(record.meta, spec_changed=spec != record.spec)
    step.put("Cluster", replace(record, meta=meta, spec=spec, ticket=ticket))
    step.audit("Cluster", event.name, "ClusterMayRejoin", f"cluster {event.name!r} may join anew.")
    if spec != record.spec:
        settle(step)
    return Applied(kind="Cluster", name=event.name)


def cluster_applied(step: Step, event: ClusterApplied) -> Applied:
    """Change the spec of a registered cluster."""
    record = lookup.cluster(step.state, event.name)
    lookup.check_expected("Cluster", event.name, record.meta, event.expected)
    lookup.region(step.state, event.spec.region)
    if record.spec == event.spec:
        return Applied(kind="Cluster", name=event.name)
    _check_cluster(event.spec)
    meta = step.next_meta(record.meta, spec_changed=True)
    step.put("Cluster", replace(record, meta=meta, spec=event.spec))
    if record.spec.connectivity is not event.spec.connectivity:
        reason = f"cluster {event.name!r} shall be reached another way now"
        end_streams(step, record, reason)
    step.audit(
        "Cluster",
        event.name,
        "ClusterChanged",
        f"cluster {event.name!r} was changed: {_difference(record.spec, event.spec)}.",
    )
    settle(step)
    return Applied(kind="Cluster", name=event.name)


def _check_cluster(spec: ClusterSpec) -> None:
    if spec.connectivity is Connectivity.UNKNOWN:
        raise Invalid("the connectivity of a cluster must be 'dial' or 'reverse'.")
    check_sync(spec.sync)


def _difference(old: ClusterSpec, new: ClusterSpec) -> str:
    pairs = (
        ("region", old.region, new.region),
        ("labels", dict(old.labels), dict(new.labels)),
        ("allow_code", old.allow_code, new.allow_code),
        ("connectivity", old.connectivity.value, new.connectivity.value),
        *_sync_changes(old.sync, new.sync),
    )
    return ", ".join(f"{name} {was} → {now}" for name, was, now in pairs if was != now)


def _sync_changes(old: SyncSpec, new: SyncSpec) -> list[tuple[str, str, str]]:
    def told(spec: SyncSpec) -> dict[str, str]:
        windows = ", ".join(map(window_text, spec.windows)) or "always"
        return {f"sync.{k}": str(v) for k, v in plain(spec).items()} | {"sync.windows": windows}

    before, after = told(old), told(new)
    return [(name, before[name], after[name]) for name in before]


def cluster_scheduling_changed(step: Step, event: ClusterSchedulingChanged) -> Applied:
    """Cordon, uncordon or drain a cluster; from any of these to any other."""
    record = lookup.cluster(step.state, event.name)
    if event.scheduling not in _SCHEDULING_WORDS:
        raise Invalid(f"{event.scheduling!r} is not a way to schedule a cluster.")
    if record.scheduling is event.scheduling:
        return Applied(kind="Cluster", name=event.name)
    meta = step.next_meta(record.meta, spec_changed=True)
    step.put("Cluster", replace(record, meta=meta, scheduling=event.scheduling))
    step.audit(
        "Cluster",
        event.name,
        f"Cluster{event.scheduling.value.capitalize()}",
        f"cluster {event.name!r} {_SCHEDULING_WORDS[event.scheduling]}.",
    )
    settle(step)
    return Applied(kind="Cluster", name=event.name)


def cluster_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Delete a cluster: its certificate stops working, its stream ends. Its engine is not told."""
    record = lookup.cluster(step.state, event.name)
    lookup.check_expected("Cluster", event.name, record.meta, event.expected)
    reason = f"cluster {event.name!r} was removed from the federation"
    revoke(step, PeerRole.CLUSTER, record, reason)
    step.delete("Cluster", event.name)
    step.state.presences.pop(event.name, None)
    step.state.reports.pop(event.name, None)
    step.audit("Cluster", event.name, "ClusterRemoved", f"{reason}.")
    settle(step)
    return Applied(kind="Cluster", name=event.name)
