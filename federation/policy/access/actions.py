"""What an event asks for, in the words of `roles`: the second question about a call, asked with all
that its body says.

Input: an event that a person or program caused. Output: its Action. What has no line in the table
may be asked for by nobody.
"""

from collections.abc import Callable
from typing import Any

from federation.contract.errors import PermissionDenied
from federation.contract.spiffe import PeerRole
from federation.policy import events
from federation.policy.access.events import KeyCreated, TenantApplied
from federation.policy.access.roles import Action, Caller, Verb, refusal
from federation.policy.events import ClusterRegistered, Event
from federation.policy.membership.events import (
    PeerAccepted,
    PeerRevoked,
    RootPrepared,
    RouterRegistered,
)
from federation.policy.rollouts.events import (
    RolloutApplied,
    RolloutSteered,
    RolloutUndone,
)
from federation.policy.rollouts.events import Verb as Steering
from federation.policy.state import State
from federation.policy.sync.events import PrefetchApplied

_PEER_KIND = {PeerRole.CLUSTER: "Cluster", PeerRole.ROUTER: "Router"}


def authorise(caller: Caller, action: Action, state: State) -> None:
    """Raise PermissionDenied unless the caller may do this."""
    if words := refusal(caller, action, state):
        raise PermissionDenied(words, hint="`fed whoami` shows what your roles are.")


def action_of(event: Event) -> Action:
    """Return what an event asks for; raises PermissionDenied for one that nobody may ask for."""
    if (told := _ACTIONS.get(type(event))) is None:
        raise PermissionDenied(f"nobody may ask for {type(event).__name__}.")
    return told(event)


def _simple(verb: Verb, kind: str, name: str = "name") -> Callable[[Any], Action]:
    return lambda event: Action(verb=verb, kind=kind, name=getattr(event, name))


def _of_peer(verb: Verb) -> Callable[[Any], Action]:
    return lambda event: Action(verb=verb, kind=_PEER_KIND[event.role], name=event.name)


def _registered(event: ClusterRegistered) -> Action:
    # A cluster that joins anew may leave its region as it is by naming none.
    regions = () if event.rejoin and not event.spec.region else (event.spec.region,)
    return Action(verb=Verb.REGISTER, kind="Cluster", name=event.name, regions=regions)


def _of_key(event: KeyCreated) -> Action:
    return Action(verb=Verb.ROTATE if event.rotate else Verb.WRITE, kind="Key", name=event.id)


def _of_steering(event: RolloutSteered) -> Action:
    stops = event.verb in (Steering.PAUSE, Steering.ABORT)
    return Action(verb=Verb.STOP if stops else Verb.WRITE, kind="Rollout", name=event.name)


_ACTIONS: dict[type[Event], Callable[[Any], Action]] = {
    events.RegionApplied: _simple(Verb.WRITE, "Region"),
    ClusterRegistered: _registered,
    events.ClusterApplied: lambda event: Action(
        verb=Verb.WRITE, kind="Cluster", name=event.name, regions=(event.spec.region,)
    ),
    events.ClusterSchedulingChanged: _simple(Verb.SCHEDULE, "Cluster"),
    events.ModelApplied: _simple(Verb.WRITE, "Model"),
    events.AliasMoved: _simple(Verb.WRITE, "Model", "model"),
    events.ModelVersionPushed: lambda event: Action(
        verb=Verb.PUSH, kind="Model", name=event.package.name
    ),
    events.DeploymentApplied: lambda event: Action(
        verb=Verb.WRITE, kind="Deployment", name=event.name, models=(event.spec.model,)
    ),
    RolloutApplied: lambda event: Action(
        verb=Verb.WRITE, kind="Rollout", name=event.name, models=(event.spec.model,)
    ),
    RolloutSteered: _of_steering,
    RolloutUndone: lambda event: Action(verb=Verb.WRITE, kind="Rollout", models=(event.model,)),
    PrefetchApplied: lambda event: Action(
        verb=Verb.WRITE, kind="Prefetch", name=event.name, models=(event.spec.model,)
    ),
    events.ObjectRemoved: lambda event: Action(verb=Verb.DELETE, kind=event.kind, name=event.name),
    RouterRegistered: _simple(Verb.REGISTER, "Router"),
    PeerAccepted: _of_peer(Verb.ACCEPT),
    PeerRevoked: _of_peer(Verb.REVOKE),
    RootPrepared: _simple(Verb.ROTATE, "Authority"),
    TenantApplied: _simple(Verb.WRITE, "Tenant"),
    KeyCreated: _of_key,
}
