"""The live side of clusters: connections, leases with epochs, reports, and silence.

Input: events from the agents' streams, and time. Output: presences, records and commands in the
Step.

A lease is permission to count as present. The newest stream wins: each accepted hello takes the
next epoch, and what arrives from an older epoch, or out of order, changes nothing. A report is
cheap: it writes to the store only if what the snapshot is made of changed (see `capacity_news`).
"""

from collections.abc import Iterable
from dataclasses import replace

from federation.contract.capacity import Calibration, Capacity
from federation.contract.errors import Conflict
from federation.contract.rollout import GoldenResult, Losses
from federation.contract.spiffe import PeerRole
from federation.contract.sync import Disk
from federation.contract.types import (
    EngineStatus,
    ModelProtocol,
    Observed,
    ObservedVersion,
    Report,
    VersionState,
)
from federation.policy import lookup
from federation.policy.capacity_news import same_build, settle_is_due, staleness, take_room
from federation.policy.events import (
    AgentConnected,
    AgentDisconnected,
    AgentReported,
    CloseAgent,
    Started,
    TimePassed,
    Welcomed,
)
from federation.policy.membership.events import PublishRouters, PublishTrust
from federation.policy.membership.members import check_member
from federation.policy.membership.revoking import forget_expired
from federation.policy.records import ClusterRecord, LastObserved, Presence
from federation.policy.rollouts.faults import note_losses
from federation.policy.rollouts.ongoing import look_for
from federation.policy.scaling import look_at_load, watch_load
from federation.policy.settle import settle, settle_later
from federation.policy.state import Step

_ROOM_SHARE = 20  # a disk that grew or shrank by less than 1/20 is the disk it was


def agent_connected(step: Step, event: AgentConnected) -> Welcomed:
    """Admit an agent by its certificate: next epoch, new lease, older streams end."""
    record = lookup.cluster(step.state, event.cluster)
    name, epoch = event.cluster, record.epoch + 1
    check_member(record.membership, PeerRole.CLUSTER, name, event.generation)
    _check_connectivity(record, event)
    step.put(
        "Cluster",
        replace(
            record,
            meta=step.next_meta(record.meta),
            epoch=epoch,
            last=_last_after_hello(record.last, event),
        ),
    )
    expires_at = step.now + step.state.lease
    step.state.presences[name] = Presence(epoch=epoch, expires_at=expires_at, connected=True)
    reason = "a newer stream of this cluster's agent took over"
    step.emit(CloseAgent(cluster=name, epoch=record.epoch, reason=reason))
    step.wake_at(expires_at)
    step.audit("Cluster", name, "AgentConnected", f"the agent of cluster {name!r} connected.")
    settle_later(step)
    return Welcomed(
        epoch=epoch,
        lease_seconds=round(step.state.lease.total_seconds()),
        allow_code=record.spec.allow_code,
        assignment=step.state.clusters[name].assignment,
    )


def _check_connectivity(record: ClusterRecord, event: AgentConnected) -> None:
    """Raise Conflict if the agent is not reached the way that the operator registered."""
    wanted, found = record.spec.connectivity, event.connectivity
    if wanted is not found:
        raise Conflict(
            f"cluster {event.cluster!r} is registered with connectivity {wanted.value!r}, its "
            f"agent has {found.value!r}.",
            hint=f"Start the agent with --connectivity {wanted.value}, or change the cluster: "
            f"fed cluster register {event.cluster} --rejoin --connectivity {found.value}",
            reason="wrong-connectivity",
        )


def _last_after_hello(last: LastObserved | None, event: AgentConnected) -> LastObserved:
    if last is not None:
        return replace(last, engine=event.engine, url=event.url or last.url)
    return LastObserved(
        engine=event.engine,
        engine_version="",
        url=event.url,
        capacity=Capacity(),
        observed=Observed(observed_generation=0, engine=EngineStatus(kind=event.engine)),
    )


def agent_reported(step: Step, event: AgentReported) -> bool:
    """Take a report that is newer than all before; returns whether it was."""
    state, report = step.state, event.report
    presence = state.presences.get(report.cluster)
    if (
        presence is None
        or not presence.connected
        or report.epoch != presence.epoch
        or report.sequence <= presence.sequence
    ):
        state.ignored_reports += 1
        return False
    before = state.reports.get(report.cluster)
    expires_at = step.now + state.lease
    state.presences[report.cluster] = Presence(
        epoch=report.epoch,
        expires_at=expires_at,
        connected=True,
        sequence=report.sequence,
        reported_at=step.now,
    )
    state.reports[report.cluster] = report
    step.wake_at(expires_at)
    if not presence.present:
        step.audit(
            "Cluster", report.cluster, "ContactRestored", f"cluster {report.cluster!r} is back."
        )
    record = step.state.clusters[report.cluster]
    _take_over(step, report, confirms=_confirms(presence, before, report))
    after = step.state.clusters[report.cluster].last
    if after and record.last is not after:
        same_stream = before is not None and before.epoch == report.epoch
        note_losses(step, record, after, same_stream=same_stream)
    return True


def _confirms(presence: Presence, before: Report | None, report: Report) -> bool:
    """Whether the report counts for more than the last one, even if it says the same."""
    return (
        presence.sequence == 0
        or not presence.present
        or before is None
        or before.observed.observed_generation != report.observed.observed_generation
    )


def _take_over(step: Step, report: Report, *, confirms: bool) -> None:
    """Keep what the report says in the cluster's record if it matters and is new."""
    record = step.state.clusters[report.cluster]
    old, new = record.last, _last_of(report, record.last)
    changed = old is None or not _same_essence(old, new)
    models: set[str] = set()
    if changed:
        models = {model for model, *_ in set(_states(new)) ^ set(_states(old) if old else ())}
        step.put("Cluster", replace(record, meta=step.next_meta(record.meta), last=new))
        _tell_progress(
            step, report.cluster, old.observed.versions if old else (), report.observed.versions
        )
    elif confirms:
        step.touch("Cluster", report.cluster)
    if confirms or changed:
        look_for(step, models | {v.model for v in record.assignment.versions})
    if old is not None:
        take_room(step, report.cluster, old, new)
    if old is None or not _same_fitness(old, new):
        settle_later(step)
    elif confirms:
        settle_later(step, {v.model for v in record.assignment.versions})
    elif changed:
        settle_later(step, models)
    for name, prefetch in step.state.prefetches.items():
        if prefetch.spec.model in models:  # how far it came is in its view only
            step.touch("Prefetch", name)


def _last_of(report: Report, last: LastObserved | None) -> LastObserved:
    """What of a report is worth remembering: not how far transfers are, nor each byte of disk."""
    versions = sorted(
        (v if v.sync is None else replace(v, sync=None) for v in report.observed.versions),
        key=lambda v: (v.model, v.version),
    )
    return LastObserved(
        engine=report.observed.engine.kind,
        engine_version=report.observed.engine.version,
        url=report.url or (last.url if last else ""),
        capacity=report.capacity.at_rest(),
        observed=replace(report.observed, versions=tuple(versions)),
        disk=last.disk if last and _same_room(last.disk, report.disk) else report.disk,
        stale=staleness(report.capacity, last.stale if last else ""),
    )


def _same_room(old: Disk, new: Disk) -> bool:
    """Whether packages have about as much room as before; what they take of it may have changed."""
    before, after = old.used_bytes + old.free_bytes, new.used_bytes + new.free_bytes
    return old.budget_bytes == new.budget_bytes and abs(after - before) <= before // _ROOM_SHARE


def _same_essence(old: LastObserved, new: LastObserved) -> bool:
    """Whether nothing changed that matters for snapshot and placement, or that a restart must not
    lose: the load does not, nor do the words of a slow step."""
    return (
        old.engine_version == new.engine_version
        and old.observed.engine.ready == new.observed.engine.ready
        and old.url == new.url
        and _same_fitness(old, new)
        and _states(old) == _states(new)
        and _measured(old) == _measured(new)
    )


def _states(
    last: LastObserved,
) -> list[tuple[str, int, str, VersionState, ModelProtocol, GoldenResult | None, Losses | None]]:
    return [
        (v.model, v.version, v.digest, v.state, v.protocol, v.golden, v.losses)
        for v in last.observed.versions
    ]


def _measured(last: LastObserved) -> list[tuple[str, int, Calibration]]:
    versions = last.observed.versions
    return [(v.model, v.version, v.calibration) for v in versions if v.calibration]


def _same_fitness(old: LastObserved, new: LastObserved) -> bool:
    """Whether the same models fit, as far as what is free now does not matter."""
    return (old.engine, old.disk, old.stale) == (new.engine, new.disk, new.stale) and same_build(
        old.capacity, new.capacity
    )


def _tell_progress(
    step: Step,
    cluster: str,
    before: Iterable[ObservedVersion],
    after: Iterable[ObservedVersion],
) -> None:
    known = {(v.model, v.version, v.digest): v.state for v in before}
    for seen in after:
        if known.get((seen.model, seen.version, seen.digest)) is seen.state:
            continue
        what = f"model {seen.model!r} version {seen.version}"
        if seen.state is VersionState.WARMED:
            step.audit("Cluster", cluster, "ModelWarmed", f"{what} is warm at {cluster!r}.")
        elif seen.state is VersionState.FAILED:
            reason = seen.reason or "no reason was given"
            message = f"{what} failed at {cluster!r}: {reason}"
            step.audit("Cluster", cluster, "ModelFailed", message)


def agent_disconnected(step: Step, event: AgentDisconnected) -> bool:
    """Note that a stream ended; the lease runs on."""
    presence = step.state.presences.get(event.cluster)
    if presence is None or presence.epoch != event.epoch or not presence.connected:
        return False
    step.state.presences[event.cluster] = replace(presence, connected=False)
    step.touch("Cluster", event.cluster)
    return True


def time_passed(step: Step, _event: TimePassed) -> bool:
    """End the leases whose time is over: traffic moves away, nothing is unloaded."""
    state = step.state
    forgotten = forget_expired(step)
    over = [n for n, p in state.presences.items() if p.present and p.expires_at <= step.now]
    for name in sorted(over):
        presence = state.presences[name]
        state.presences[name] = replace(presence, present=False)
        silent = (step.now - presence.expires_at + state.lease).total_seconds()
        step.audit(
            "Cluster",
            name,
            "ContactLost",
            f"nothing was heard of cluster {name!r} for {silent:.0f} s: requests go elsewhere.",
        )
        step.touch("Cluster", name)
        versions = state.clusters[name].assignment.versions if name in state.clusters else ()
        look_for(step, {v.model for v in versions})
    if scaled := look_at_load(step):
        settle_later(step, scaled)
    if settle_is_due(step) or over:
        settle(step)
    if pending := [p.expires_at for p in state.presences.values() if p.present]:
        step.wake_at(min(pending))
    return bool(over) or forgotten


def started(step: Step, _event: Started) -> bool:
    """Give every member cluster one lease of grace, so that routers see an equal table."""
    expires_at = step.now + step.state.lease
    for name, record in step.state.clusters.items():
        if record.membership.valid:
            step.state.presences[name] = Presence(
                epoch=record.epoch, expires_at=expires_at, connected=False
            )
            reason = "the control plane starts anew: connect again"
            step.emit(CloseAgent(cluster=name, epoch=record.epoch, reason=reason))
    step.wake_at(expires_at)
    step.state.started_at = step.now
    look_for(step, set(step.state.going))
    forget_expired(step)
    watch_load(step)
    step.emit(PublishTrust(), PublishRouters())
    settle(step)
    return True
