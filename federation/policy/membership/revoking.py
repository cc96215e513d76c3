"""How memberships end: certificates that live on are refused everywhere at once.

Input: PeerRevoked and removals from operators, joins that replace an older one, and time. Output:
RevocationRecords, which every agent and router is told; streams that end. A revocation is
forgotten once every certificate that it concerns has expired.
"""

from dataclasses import replace
from datetime import timedelta

from federation.contract.spiffe import PeerRole
from federation.policy import lookup
from federation.policy.events import Applied, ObjectRemoved
from federation.policy.membership import members
from federation.policy.membership.events import PeerRevoked, PublishRouters, PublishTrust
from federation.policy.membership.members import Member
from federation.policy.membership.records import RevocationRecord
from federation.policy.records import ClusterRecord
from federation.policy.settle import settle
from federation.policy.state import Step

SKEW = timedelta(minutes=5)  # by which a peer's clock may be behind ours


def revoke(step: Step, role: PeerRole, record: Member, reason: str) -> None:
    """Refuse the certificates that a member has, and end its streams."""
    generation = record.membership.generation
    if generation:
        uri = members.uri_of(step.state, role, record.meta.name)
        until = step.now + step.state.leaf_life + SKEW
        revoked = RevocationRecord(uri=uri, below=generation + 1, until=until)
        step.put_quietly("Revocation", uri, revoked)
        step.emit(PublishTrust())
        step.wake_at(until)
    members.end_streams(step, record, reason)


def peer_revoked(step: Step, event: PeerRevoked) -> Applied:
    """Take a membership away; the object stays, and may be let in anew."""
    record = members.find(step.state, event.role, event.name)
    kind, what = members.kind_of(event.role), members.title(event.role, event.name)
    if record.membership.revoked and record.ticket is None:
        return Applied(kind=kind, name=event.name)
    reason = f"the membership of {what} was revoked"
    revoke(step, event.role, record, reason)
    step.put(
        kind,
        replace(
            record,
            meta=step.next_meta(record.meta),
            ticket=None,
            membership=replace(record.membership, revoked=True),
        ),
    )
    step.audit(kind, event.name, f"{kind}Revoked", f"{reason}.")
    _forget_presence(step, record)
    return Applied(kind=kind, name=event.name)


def _forget_presence(step: Step, record: Member) -> None:
    """What a former member says counts no more, and nothing is sent to it."""
    name, state = record.meta.name, step.state
    if isinstance(record, ClusterRecord):
        state.presences.pop(name, None)
        state.reports.pop(name, None)
        settle(step)
        return
    if state.routers.pop(name, None) is not None:
        step.publish()
    if record.reverse_address:
        step.emit(PublishRouters())


def router_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Delete a router: its certificate stops working, its stream ends."""
    record = lookup.find("Router", step.state.registered_routers, event.name)
    lookup.check_expected("Router", event.name, record.meta, event.expected)
    reason = f"router {event.name!r} was removed from the federation"
    revoke(step, PeerRole.ROUTER, record, reason)
    step.delete("Router", event.name)
    step.audit("Router", event.name, "RouterRemoved", f"{reason}.")
    _forget_presence(step, record)
    return Applied(kind="Router", name=event.name)


def forget_expired(step: Step) -> bool:
    """Forget the revocations that concern nobody any more; returns whether there were any."""
    over = [uri for uri, r in step.state.revocations.items() if r.until <= step.now]
    for uri in over:
        step.delete_quietly("Revocation", uri)
    if over:
        step.emit(PublishTrust())
    if pending := [r.until for r in step.state.revocations.values()]:
        step.wake_at(min(pending))
    return bool(over)
