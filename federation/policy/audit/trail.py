"""Which events the audit log tells of, and in which words. Pure.

Input: an event that was just decided, its result, and where it came from. Output: one AppendAudit
for a change by people, programs or members, however many objects it changed, for AccessDenied, and
for what was done to the store of packages, of which the State knows nothing.
Reports, streams and routers' status come by the second: the operator's news tells of them.
"""

from federation.policy import events
from federation.policy.audit import chain
from federation.policy.audit.events import (
    AccessDenied,
    AppendAudit,
    Origin,
    StoreCollected,
    VersionVerified,
)
from federation.policy.audit.records import HEAD_NAME, START, AuditEntry, AuditOutcome
from federation.policy.events import Applied, Delete, Event, Put, Result
from federation.policy.membership.events import PeerJoined
from federation.policy.records import AuditRecord
from federation.policy.rollouts.events import RouterCounted
from federation.policy.state import Step

# Every other event is told: a new one has to be left out on purpose.
UNTOLD = (
    events.AgentConnected
    | events.AgentReported
    | events.AgentDisconnected
    | events.RouterConnected
    | events.RouterAnswered
    | events.RouterReported
    | RouterCounted
    | events.RouterDisconnected
    | events.TimePassed
    | events.Started
)


def only_told(_step: Step, _event: AccessDenied | StoreCollected | VersionVerified) -> bool:
    """Change nothing: `tell` writes it down."""
    return True


def tell(step: Step, event: Event, result: Result, origin: Origin) -> None:
    """Append an entry to the log if the event is one to tell of and changed something."""
    if isinstance(event, UNTOLD):
        return
    if isinstance(event, AccessDenied):
        _append(step, _denied(step, event, origin))
    elif isinstance(event, StoreCollected | VersionVerified):
        _append(step, _tended(step, event, origin))
    elif any(isinstance(command, Put | Delete) for command in step.commands):
        _append(step, _done(step, event, result, origin))


def _append(step: Step, entry: AuditEntry) -> None:
    head = step.state.audit_head.get(HEAD_NAME, START)
    head, entry = chain.append(head, entry)
    step.put_quietly("AuditHead", HEAD_NAME, head)
    step.emit(AppendAudit(entry=entry))


def _denied(step: Step, event: AccessDenied, origin: Origin) -> AuditEntry:
    return AuditEntry(
        at=step.now,
        actor=event.actor,
        source=origin.source,
        action=type(event).__name__,
        kind="Call",
        name=event.target,
        outcome=AuditOutcome.DENIED,
        reason=event.reason,
        message=event.message,
        request_id=origin.request_id,
        count=event.count,
    )


def _tended(step: Step, event: StoreCollected | VersionVerified, origin: Origin) -> AuditEntry:
    if isinstance(event, StoreCollected):
        kind, name = "Store", ""
        told = f"freed {event.freed_bytes} bytes: {event.packs} packs, {event.documents} documents"
    else:
        kind, name = "ModelVersion", f"{event.model}/{event.version}"
        told = f"found {event.damaged} things damaged" if event.damaged else "found it whole"
    action = type(event).__name__
    return AuditEntry(
        at=step.now,
        actor=step.actor,
        source=origin.source,
        action=action,
        kind=kind,
        name=name,
        outcome=AuditOutcome.DONE,
        reason=action,
        message=told,
        request_id=origin.request_id,
    )


def _done(step: Step, event: Event, result: Result, origin: Origin) -> AuditEntry:
    """The decider's own news of the object say what happened; those of others are consequences."""
    news = [c.record for c in step.commands if isinstance(c, Put) and c.kind == "Event"]
    kind, name = _subject(event, result, news)
    told = next((one for one in news if (one.kind, one.name) == (kind, name)), None)
    action = type(event).__name__
    return AuditEntry(
        at=step.now,
        actor=step.actor,
        source=origin.source,
        action=action,
        kind=kind,
        name=name,
        outcome=AuditOutcome.DONE,
        reason=told.reason if told else action,
        message=told.message if told else "",
        request_id=origin.request_id,
    )


def _subject(event: Event, result: Result, news: list[AuditRecord]) -> tuple[str, str]:
    """Return kind and name of what the event was about."""
    if isinstance(result, Applied):
        return result.kind, result.name
    if isinstance(event, PeerJoined):
        return event.role.value.capitalize(), event.name
    return (news[0].kind, news[0].name) if news else ("", "")
