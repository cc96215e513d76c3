"""How clusters and routers become members: one token, one key, one generation.

Input: PeerJoined from who shows a join token and proved a key; RouterRegistered and PeerAccepted
from operators. Output: memberships in the records; the generation for certificates.

A token admits exactly one key. Who holds that key may repeat the join as long as the token lasts,
so that a lost answer costs nothing. Each join takes a generation above all before, of anybody.
"""

from dataclasses import replace
from datetime import timedelta

from federation.contract.errors import AlreadyExists, Conflict, Unauthenticated
from federation.contract.names import check_name
from federation.contract.spiffe import PeerRole
from federation.policy import lookup
from federation.policy.events import Applied
from federation.policy.membership import members
from federation.policy.membership.events import (
    Joined,
    PeerAccepted,
    PeerJoined,
    RouterRegistered,
)
from federation.policy.membership.members import Member
from federation.policy.membership.records import JoinTicket, Membership, RouterRecord
from federation.policy.membership.revoking import revoke
from federation.policy.settle import settle
from federation.policy.state import Step

# An accepted peer asks again within seconds; one that was off meanwhile needs longer.
COLLECT = timedelta(hours=1)


def router_registered(step: Step, event: RouterRegistered) -> Applied:
    """Register a router, or let a known one join anew; it then joins with the token."""
    check_name("router", event.name)
    ticket = JoinTicket(
        token_sha256=event.token_sha256,
        expires_at=event.token_expires_at,
        require_accept=event.require_accept,
    )
    old = step.state.registered_routers.get(event.name)
    if event.rejoin:
        record = lookup.find("Router", step.state.registered_routers, event.name)
        spec = event.spec if event.spec.description else record.spec
        meta = step.next_meta(record.meta, spec_changed=spec != record.spec)
        step.put("Router", replace(record, meta=meta, spec=spec, ticket=ticket))
        told = ("RouterMayRejoin", f"router {event.name!r} may join anew.")
    elif old is not None:
        raise AlreadyExists(
            f"router {event.name!r} is registered already.",
            hint="To let it join anew, on another machine for example: "
            f"fed router register {event.name} --rejoin",
        )
    else:
        meta = step.new_meta(event.name)
        step.put("Router", RouterRecord(meta=meta, spec=event.spec, ticket=ticket))
        told = ("RouterRegistered", f"router {event.name!r} was registered.")
    step.audit("Router", event.name, *told)
    return Applied(kind="Router", name=event.name, created=not event.rejoin)


def peer_joined(step: Step, event: PeerJoined) -> Joined:
    """Make the bearer of a join token a member; raises Unauthenticated or AlreadyExists."""
    record, ticket = _ticket(step, event)
    if ticket.used_by:
        _check_repeated(step, event, record, ticket)
        membership = record.membership
        return Joined(generation=membership.generation, accepted=membership.accepted)
    if ticket.expires_at <= step.now:
        raise _expired(event, ticket)
    what = members.title(event.role, event.name)
    if record.membership.generation and not record.membership.revoked:
        revoke(step, event.role, record, f"{what} joined anew with another key")
    meta = step.next_meta(record.meta)
    membership = Membership(
        generation=meta.resource_version,
        accepted=not ticket.require_accept,
        joined_at=step.now,
    )
    used = replace(ticket, used_by=event.key_sha256)
    kind = members.kind_of(event.role)
    step.put(kind, replace(record, meta=meta, ticket=used, membership=membership))
    waits = "" if membership.accepted else " and waits for an operator to accept it"
    step.audit(kind, event.name, f"{kind}Joined", f"{what} joined{waits}.")
    _follow_up(step, event.role)
    return Joined(generation=membership.generation, accepted=membership.accepted)


def _ticket(step: Step, event: PeerJoined) -> tuple[Member, JoinTicket]:
    """Return whom the token is for. A stranger must not learn which names are registered."""
    record = members.find_or_none(step.state, event.role, event.name)
    ticket = record.ticket if record else None
    if record is None or ticket is None or ticket.token_sha256 != event.token_sha256:
        raise Unauthenticated(
            f"this is not the join token of {members.title(event.role, event.name)}.",
            hint="Use the newest one that was printed for it, or have a new one made: "
            f"fed {event.role.value} register {event.name} --rejoin",
            reason="join-token-wrong",
        )
    return record, ticket


def _check_repeated(step: Step, event: PeerJoined, record: Member, ticket: JoinTicket) -> None:
    if ticket.used_by != event.key_sha256:
        raise AlreadyExists(
            f"{members.title(event.role, event.name)} has already joined with this token.",
            hint=members.rejoin_hint(event.role, event.name),
            reason="join-token-used",
        )
    if record.membership.accepted and ticket.expires_at <= step.now:
        raise _expired(event, ticket)


def _expired(event: PeerJoined, ticket: JoinTicket) -> Unauthenticated:
    return Unauthenticated(
        f"the join token of {members.title(event.role, event.name)} expired at "
        f"{ticket.expires_at:%F %T} UTC.",
        hint=members.rejoin_hint(event.role, event.name),
        reason="join-token-expired",
    )


def peer_accepted(step: Step, event: PeerAccepted) -> Applied:
    """Let a peer in that joined with a token which demands an operator's word."""
    record = members.find(step.state, event.role, event.name)
    kind, what = members.kind_of(event.role), members.title(event.role, event.name)
    if record.membership.revoked or not record.membership.generation:
        state = "was revoked" if record.membership.revoked else "has not joined yet"
        raise Conflict(
            f"{what} {state}: there is nobody to accept.",
            hint="Accept it after it has joined.",
            reason="nobody-waits",
        )
    if record.membership.accepted:
        return Applied(kind=kind, name=event.name)
    ticket = record.ticket
    if ticket is not None:
        ticket = replace(ticket, expires_at=max(ticket.expires_at, step.now + COLLECT))
    step.put(
        kind,
        replace(
            record,
            meta=step.next_meta(record.meta),
            ticket=ticket,
            membership=replace(record.membership, accepted=True),
        ),
    )
    step.audit(kind, event.name, f"{kind}Accepted", f"{what} was accepted.")
    _follow_up(step, event.role)
    return Applied(kind=kind, name=event.name)


def _follow_up(step: Step, role: PeerRole) -> None:
    """Bring in line what depends on who is a member."""
    if role is PeerRole.CLUSTER:
        settle(step)
