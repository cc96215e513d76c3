from typing import get_args

import pytest

from federation.contract.access import Grant, Role
from federation.contract.errors import PermissionDenied
from federation.contract.resources import ClusterSpec, DeploymentSpec, PrefetchSpec, RegionSpec
from federation.contract.rollout import RolloutSpec
from federation.contract.spiffe import PeerRole
from federation.contract.types import Location, Scheduling
from federation.policy import events
from federation.policy.access.actions import action_of, authorise
from federation.policy.access.events import KeyCreated
from federation.policy.access.records import KeyKind
from federation.policy.access.roles import Action, Caller, Verb
from federation.policy.decide import decide
from federation.policy.events import Event
from federation.policy.membership.events import PeerAccepted, PeerRevoked
from federation.policy.rollouts.events import RolloutApplied, RolloutSteered, RolloutUndone
from federation.policy.rollouts.events import Verb as Steering
from federation.policy.state import State
from federation.policy.sync.events import PrefetchApplied
from tests.federation.policy.world import START, World

# What nobody asks for over the operator API: it comes from streams, timers and the gate itself.
INSIDE = {
    "PeerJoined",
    "AgentConnected",
    "AgentReported",
    "AgentDisconnected",
    "RouterConnected",
    "RouterAnswered",
    "RouterReported",
    "RouterCounted",
    "RouterDisconnected",
    "AccessDenied",
    "StoreCollected",
    "VersionVerified",
    "TimePassed",
    "Started",
}


def registered(region: str, *, rejoin: bool = False) -> events.ClusterRegistered:
    return events.ClusterRegistered(
        actor="a",
        name="c",
        spec=ClusterSpec(region=region),
        token_sha256="",
        token_expires_at=START,
        rejoin=rejoin,
    )


def test_every_event_is_either_asked_for_or_comes_from_inside() -> None:
    from federation.policy.access import actions

    asked = {cls.__name__ for cls in actions._ACTIONS}
    every = {cls.__name__ for cls in get_args(Event)}
    assert asked | INSIDE >= every
    assert not asked & INSIDE


@pytest.mark.parametrize("event", [events.TimePassed(), events.Started()])
def test_nobody_may_ask_for_what_comes_from_inside(event: Event) -> None:
    with pytest.raises(PermissionDenied):
        action_of(event)


def act(verb: Verb, kind: str, name: str, *regions: str, models: tuple[str, ...] = ()) -> Action:
    return Action(verb=verb, kind=kind, name=name, regions=regions, models=models)


@pytest.mark.parametrize(
    ("event", "action"),
    [
        (registered("eu"), act(Verb.REGISTER, "Cluster", "c", "eu")),
        (registered(""), act(Verb.REGISTER, "Cluster", "c", "")),
        (registered("eu", rejoin=True), act(Verb.REGISTER, "Cluster", "c", "eu")),
        (registered("", rejoin=True), act(Verb.REGISTER, "Cluster", "c")),
        (
            events.ClusterApplied(actor="a", name="c", spec=ClusterSpec(region="us")),
            act(Verb.WRITE, "Cluster", "c", "us"),
        ),
        (
            events.ClusterSchedulingChanged(actor="a", name="c", scheduling=Scheduling.DRAINING),
            act(Verb.SCHEDULE, "Cluster", "c"),
        ),
        (
            events.DeploymentApplied(actor="a", name="d", spec=DeploymentSpec(model="m")),
            act(Verb.WRITE, "Deployment", "d", models=("m",)),
        ),
        (
            PrefetchApplied(actor="a", name="p", spec=PrefetchSpec(model="m", version=1)),
            act(Verb.WRITE, "Prefetch", "p", models=("m",)),
        ),
        (
            RolloutApplied(actor="a", name="r", spec=RolloutSpec(model="m", version=2)),
            act(Verb.WRITE, "Rollout", "r", models=("m",)),
        ),
        *(
            (
                RolloutSteered(actor="a", name="r", verb=steering),
                act(verb, "Rollout", "r"),
            )
            for steering, verb in (
                (Steering.PAUSE, Verb.STOP),
                (Steering.ABORT, Verb.STOP),
                (Steering.RESUME, Verb.WRITE),
                (Steering.PROMOTE, Verb.WRITE),
                (Steering.APPROVE, Verb.WRITE),
            )
        ),
        (RolloutUndone(actor="a", model="m"), act(Verb.WRITE, "Rollout", "", models=("m",))),
        (
            events.AliasMoved(actor="a", model="m", alias="x", version=1),
            act(Verb.WRITE, "Model", "m"),
        ),
        (events.ObjectRemoved(actor="a", kind="Key", name="k"), act(Verb.DELETE, "Key", "k")),
        (
            PeerAccepted(actor="a", role=PeerRole.ROUTER, name="r"),
            act(Verb.ACCEPT, "Router", "r"),
        ),
        (
            PeerRevoked(actor="a", role=PeerRole.CLUSTER, name="c"),
            act(Verb.REVOKE, "Cluster", "c"),
        ),
        (
            KeyCreated(actor="a", id="k", kind=KeyKind.USER, digest="", rotate=True),
            act(Verb.ROTATE, "Key", "k"),
        ),
    ],
)
def test_an_event_asks_for_its_action(event: Event, action: Action) -> None:
    assert action_of(event) == action


def test_a_refusal_is_an_error_with_a_remedy() -> None:
    viewer = Caller(name="user/v", grants=(Grant(role=Role.VIEWER),))
    with pytest.raises(PermissionDenied, match="user/v may not delete key 'k'") as refused:
        authorise(viewer, act(Verb.DELETE, "Key", "k"), State())
    assert "fed whoami" in refused.value.hint


def test_decide_asks_before_anything_changes_also_for_a_repeated_request() -> None:
    world = World()
    spec = RegionSpec(location=Location(latitude=1, longitude=1))
    event = events.RegionApplied(actor="user/a", name="eu", spec=spec)
    mine = Caller(name="user/a", grants=(Grant(role=Role.OPERATOR, regions=("eu",)),))
    lost = Caller(name="user/a", grants=(Grant(role=Role.OPERATOR, regions=("us",)),))
    key = events.Idempotency(key="k", fingerprint="f")
    before = world.state.copy()
    with pytest.raises(PermissionDenied):
        decide(world.state, event, START, key, lost)
    assert world.state == before
    decide(world.state, event, START, key, mine)
    with pytest.raises(PermissionDenied):
        decide(world.state, event, START, key, lost)
