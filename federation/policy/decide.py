"""The one door to all deciders: an event and the State go in, commands and a result come out.

Input: events from the control loop's inbox, one after the other. Output: an Outcome; the State is
changed. A refusal is a FederationError and leaves the State as it was.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from federation.contract.errors import Invalid
from federation.contract.names import did_you_mean
from federation.policy import catalog, deployments, events, fleet, leases, routers
from federation.policy.access import keys, tenants
from federation.policy.access.actions import action_of, authorise
from federation.policy.access.events import KeyCreated, TenantApplied
from federation.policy.access.roles import Caller
from federation.policy.audit import trail
from federation.policy.audit.events import (
    INSIDE,
    AccessDenied,
    Origin,
    StoreCollected,
    VersionVerified,
)
from federation.policy.events import (
    Applied,
    Command,
    Event,
    Idempotency,
    ObjectRemoved,
    Outcome,
    Welcomed,
)
from federation.policy.membership import joining, revoking, rotating
from federation.policy.membership.events import (
    Joined,
    PeerAccepted,
    PeerJoined,
    PeerRevoked,
    RootPrepared,
    RouterRegistered,
)
from federation.policy.rollouts import machine, requests
from federation.policy.rollouts.events import (
    RolloutApplied,
    RolloutSteered,
    RolloutUndone,
    RouterCounted,
)
from federation.policy.settle import settle_pending
from federation.policy.state import RECEIPT_AGE, State, Step
from federation.policy.sync import prefetches
from federation.policy.sync.events import PrefetchApplied

Handler = Callable[[Step, Any], Applied | Welcomed | Joined | bool]

_REMOVALS: dict[str, Callable[[Step, ObjectRemoved], Applied]] = {
    "Region": fleet.region_removed,
    "Cluster": fleet.cluster_removed,
    "Model": catalog.model_removed,
    "Deployment": deployments.deployment_removed,
    "Rollout": requests.rollout_removed,
    "Prefetch": prefetches.prefetch_removed,
    "Router": revoking.router_removed,
    "Key": keys.key_removed,
    "Tenant": tenants.tenant_removed,
}


def _object_removed(step: Step, event: ObjectRemoved) -> Applied:
    if (handler := _REMOVALS.get(event.kind)) is None:
        hint = did_you_mean(event.kind, _REMOVALS)
        raise Invalid(f"{event.kind!r} is not a kind that can be deleted.", hint=hint)
    return handler(step, event)


HANDLERS: dict[type[Event], Handler] = {
    events.RegionApplied: fleet.region_applied,
    events.ClusterRegistered: fleet.cluster_registered,
    events.ClusterApplied: fleet.cluster_applied,
    events.ClusterSchedulingChanged: fleet.cluster_scheduling_changed,
    events.ModelApplied: catalog.model_applied,
    events.ModelVersionPushed: catalog.model_version_pushed,
    events.AliasMoved: catalog.alias_moved,
    events.DeploymentApplied: deployments.deployment_applied,
    RolloutApplied: requests.rollout_applied,
    RolloutSteered: requests.rollout_steered,
    RolloutUndone: requests.rollout_undone,
    PrefetchApplied: prefetches.prefetch_applied,
    events.ObjectRemoved: _object_removed,
    RouterRegistered: joining.router_registered,
    PeerJoined: joining.peer_joined,
    PeerAccepted: joining.peer_accepted,
    PeerRevoked: revoking.peer_revoked,
    RootPrepared: rotating.root_prepared,
    KeyCreated: keys.key_created,
    TenantApplied: tenants.tenant_applied,
    events.AgentConnected: leases.agent_connected,
    events.AgentReported: leases.agent_reported,
    events.AgentDisconnected: leases.agent_disconnected,
    events.RouterConnected: routers.router_connected,
    events.RouterAnswered: routers.router_answered,
    events.RouterReported: routers.router_reported,
    RouterCounted: routers.router_counted,
    events.RouterDisconnected: routers.router_disconnected,
    AccessDenied: trail.only_told,
    StoreCollected: trail.only_told,
    VersionVerified: trail.only_told,
    events.TimePassed: leases.time_passed,
    events.Started: leases.started,
}


def decide(
    state: State,
    event: Event,
    now: datetime,
    idempotency: Idempotency | None = None,
    caller: Caller | None = None,
    origin: Origin = INSIDE,
) -> Outcome:
    """Change `state` by one event; raises a FederationError and changes nothing if it is refused.

    With `idempotency`, a request that was answered before gets the same answer again. With
    `caller`, PermissionDenied is raised unless it may do what the event asks for, now. `origin` is
    told by the audit log.
    """
    outcome = decide_among(state, event, now, idempotency, caller, origin)
    return replace(outcome, commands=outcome.commands + finish(state, now))


def decide_among(
    state: State,
    event: Event,
    now: datetime,
    idempotency: Idempotency | None = None,
    caller: Caller | None = None,
    origin: Origin = INSIDE,
) -> Outcome:
    """Decide one of several events of the same moment; `finish` has to follow the last one."""
    if caller is not None:
        authorise(caller, action_of(event), state)
    if idempotency and (earlier := _earlier(state, idempotency, now)):
        return Outcome(commands=(), result=earlier)
    step = Step(state, now, _actor(event))
    result = HANDLERS[type(event)](step, event)
    trail.tell(step, event, result, origin)
    if idempotency and isinstance(result, Applied):
        step.remember(idempotency.key, idempotency.fingerprint, result)
    return Outcome(commands=tuple(step.commands), result=result)


def finish(state: State, now: datetime) -> tuple[Command, ...]:
    """Do what the events of one moment put off; returns the commands that follow."""
    step = Step(state, now, "control-plane")
    settled = settle_pending(step, later=machine.beginning(step))
    machine.look(step)
    settle_pending(step, done=settled)
    return tuple(step.commands)


def _earlier(state: State, idempotency: Idempotency, now: datetime) -> Applied | None:
    receipt = state.receipts.get(idempotency.key)
    if receipt is None or receipt.at < now - RECEIPT_AGE:
        return None
    if receipt.fingerprint != idempotency.fingerprint:
        raise Invalid(
            f"the idempotency key {idempotency.key!r} was used for another request.",
            hint="Use a new key for each new request.",
            reason="idempotency-key-reused",
        )
    return Applied(
        kind=receipt.object_kind,
        name=receipt.object_name,
        created=receipt.created,
        version=receipt.version,
        digest=receipt.digest,
    )


def _actor(event: Event) -> str:
    match event:
        case events.AgentReported(report=report):
            return f"cluster/{report.cluster}"
        case events.AgentConnected(cluster=name) | events.AgentDisconnected(cluster=name):
            return f"cluster/{name}"
        case (
            events.RouterConnected(name=name)
            | events.RouterAnswered(name=name)
            | events.RouterReported(name=name)
            | RouterCounted(name=name)
            | events.RouterDisconnected(name=name)
        ):
            return f"router/{name}"
        case PeerJoined(role=role, name=name):
            return f"{role.value}/{name}"
        case events.TimePassed() | events.Started():
            return "control-plane"
        case _:
            return event.actor
