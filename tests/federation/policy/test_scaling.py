"""Replicas that follow the load: from reports to assignments."""

from dataclasses import replace

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from federation.contract.capacity import Calibration, Resources
from federation.contract.errors import Invalid
from federation.contract.resources import DeploymentSpec
from federation.contract.scaling import Scaling, ScalingMode
from federation.contract.types import AssignedVersion, EngineKind, Scheduling
from federation.policy.deployment_view import deployment_status
from federation.policy.scaling import PAUSE
from federation.policy.settle import settle
from federation.policy.state import Step
from tests.federation.policy.world import World

AUTO = Scaling(mode=ScalingMode.AUTO, min=1, max=4, target=0.5, up_s=10.0, down_s=60.0)


def spec(scaling: Scaling = AUTO, *, gpus: int = 1, replicas: int = 1) -> DeploymentSpec:
    needs = Resources(gpus=gpus)
    return DeploymentSpec(model="m", scaling=scaling, resources=needs, replicas=replicas)


@pytest.fixture
def world() -> World:
    made = World()
    made.cluster("c", gpus=8)
    made.push("m")
    made.deploy(spec())
    made.serve("c")
    return made


def given(world: World, cluster: str = "c", version: int = 1) -> AssignedVersion:
    versions = world.state.clusters[cluster].assignment.versions
    return next(v for v in versions if (v.model, v.version) == ("m", version))


def load(world: World, in_flight: int, seconds: float, cluster: str = "c") -> None:
    """So many requests are in flight for a while, and the agent does what it is told."""
    for _ in range(int(seconds / 5)):
        seen = [
            replace(
                each, in_flight=in_flight, replicas=given(world, cluster, each.version).replicas
            )
            for each in world.seen(cluster)
        ]
        world.report(cluster, seen)
        world.advance(5)


def test_replicas_follow_the_load(world: World) -> None:
    assert given(world).replicas == 1
    load(world, 1, 30)
    assert given(world).replicas == 2
    assert "ReplicasAsked" in world.told()
    load(world, 0, 30)
    assert given(world).replicas == 2
    load(world, 0, 40)
    assert given(world).replicas == 1
    load(world, 100, 30)
    assert given(world).replicas == 4


def test_a_queue_in_the_engine_is_followed_at_the_second_look(world: World) -> None:
    slow = replace(AUTO, up_s=600.0)
    world.deploy(spec(slow))
    for _ in range(3):
        world.report("c", [replace(each, replicas=1, queued=5) for each in world.seen("c")])
        world.advance(5)
    assert given(world).replicas == 4


def test_nothing_is_looked_at_without_such_a_deployment(world: World) -> None:
    assert world.state.look_at is not None
    world.deploy(spec(Scaling(), replicas=3))
    assert world.state.look_at is None
    assert not world.state.scales
    assert given(world).replicas == 3
    world.deploy(spec())
    assert world.state.look_at == world.now + PAUSE
    assert given(world).replicas == 3  # until it is known that fewer suffice


def test_more_than_has_room_waits_for_room(world: World) -> None:
    world.gpus["c"] = 3
    load(world, 100, 30)
    assert given(world).replicas == 3
    status = deployment_status(world.state, world.state.deployments["d"], world.now)
    (cannot,) = status["cannot"]
    assert cannot["reason"].startswith("version 1 stays at 3 of 4 replicas: needs 4 times 1 GPU")
    world.gpus["c"] = 4
    load(world, 100, 15)
    assert given(world).replicas == 4


def test_room_that_is_free_again_goes_to_others(world: World) -> None:
    load(world, 100, 30)
    world.push("n")
    world.deploy(DeploymentSpec(model="n", resources=Resources(gpus=5)), name="n")
    assert ("n", 1) not in world.assigned("c")
    world.gpus["c"] = 9
    load(world, 0, 70)
    assert given(world).replicas == 1
    assert ("n", 1) in world.assigned("c")


def test_a_new_version_begins_with_what_its_predecessor_has(world: World) -> None:
    load(world, 100, 30)
    world.push("m", "2")
    assert (given(world).replicas, given(world, version=2).replicas) == (4, 4)


def test_a_new_version_begins_with_what_has_room(world: World) -> None:
    load(world, 100, 30)
    world.gpus["c"] = 6
    world.report("c", world.seen("c"))
    world.push("m", "2")
    assert (given(world).replicas, given(world, version=2).replicas) == (4, 2)


def test_who_is_not_heard_of_keeps_what_it_has(world: World) -> None:
    load(world, 100, 30)
    for _ in range(30):
        world.advance(5)
    assert given(world).replicas == 4
    world.connect("c")
    load(world, 0, 50)
    assert given(world).replicas == 4  # the window began anew
    load(world, 0, 20)
    assert given(world).replicas == 1


def test_a_restart_of_the_control_plane_changes_nothing(world: World) -> None:
    load(world, 100, 30)
    world.restart()
    assert (given(world).replicas, world.state.scales) == (4, {})
    world.connect("c")
    load(world, 100, 30)
    assert given(world).replicas == 4
    assert world.state.look_at is not None


def test_a_cordoned_cluster_gets_nothing_new(world: World) -> None:
    world.schedule("c", Scheduling.CORDONED)
    load(world, 100, 30)
    assert given(world).replicas == 1
    world.schedule("c", Scheduling.ACTIVE)
    assert given(world).replicas == 4


def test_what_was_measured_counts_and_is_remembered(world: World) -> None:
    measured = Calibration(per_second=100.0, latency_ms=5.0, concurrency=16)
    for _ in range(6):
        (seen,) = world.seen("c")
        busy = replace(seen, replicas=1, in_flight=9, rate=20.0, calibration=measured)
        world.report("c", [busy])
        world.advance(5)
    assert given(world).replicas == 1  # busy to 20 % only
    world.restart()
    last = world.state.clusters["c"].last
    assert last is not None
    assert last.observed.versions[0].calibration == measured


def test_new_limits_hold_at_once(world: World) -> None:
    load(world, 100, 30)
    world.deploy(spec(replace(AUTO, max=2)))
    assert given(world).replicas == 2
    load(world, 0, 5)
    world.deploy(spec(replace(AUTO, min=3)))
    assert given(world).replicas == 3


def test_each_cluster_follows_its_own_load(world: World) -> None:
    world.cluster("e", "us", gpus=8)
    world.serve("e")
    for _ in range(6):
        world.report("e", [replace(each, replicas=1) for each in world.seen("e")])
        load(world, 100, 5)
    assert (given(world).replicas, given(world, "e").replicas) == (4, 1)


def test_a_cluster_that_cannot_grow_keeps_its_place(world: World) -> None:
    world.cluster("e", "us", gpus=8)
    world.deploy(replace(spec(), clusters=1))
    world.serve("c")
    world.serve("e")
    world.gpus["c"] = 1
    load(world, 100, 60)
    assert given(world).replicas == 1
    assert world.assigned("e") == []


def test_the_engine_is_told_its_limits() -> None:
    world = World()
    world.cluster("ray", engine=EngineKind.RAY_SERVE, gpus=4)
    world.cluster("triton", gpus=4)
    world.cluster("small", engine=EngineKind.RAY_SERVE, gpus=2)
    world.push("m")
    world.deploy(spec(replace(AUTO, mode=ScalingMode.ENGINE, min=2)))
    assert (given(world, "ray").replicas, given(world, "ray").max_replicas) == (2, 4)
    assert (given(world, "triton").replicas, given(world, "triton").max_replicas) == (2, 0)
    assert world.assigned("small") == []  # room is counted for all that the engine may start
    world.serve("ray")
    load(world, 100, 30, "ray")
    assert given(world, "ray").replicas == 2
    world.deploy(spec(replace(AUTO, mode=ScalingMode.ENGINE, max=3)))
    assert (given(world, "ray").replicas, given(world, "ray").max_replicas) == (1, 3)


def test_an_engine_without_an_autoscaler_needs_room_for_the_fewest_only() -> None:
    world = World()
    world.cluster("triton", gpus=1)
    for model in ("a", "m"):
        world.push(model)
    world.deploy(DeploymentSpec(model="a", replicas=4, resources=Resources(gpus=1)), name="a")
    world.deploy(spec(replace(AUTO, mode=ScalingMode.ENGINE, min=2)), name="b")
    assert world.assigned("triton") == []
    world.gpus["triton"] = 3
    world.report("triton")  # `a` is refused first: what does not fit for it is remembered
    assert world.assigned("triton") == [("m", 1)]
    assert given(world, "triton").replicas == 2


def test_what_makes_no_sense_is_refused(world: World) -> None:
    with pytest.raises(Invalid, match="target is a share"):
        world.deploy(spec(replace(AUTO, target=7.0)))


@settings(max_examples=15, deadline=None)
@for_all(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.sampled_from([5, 20, 65])),
        min_size=1,
        max_size=8,
    ),
    st.integers(2, 7),
    st.integers(1, 2),
)
def test_limits_and_devices_hold_under_any_load(
    history: list[tuple[str, int, int]], gpus: int, each: int
) -> None:
    world = World()
    world.cluster("c", gpus=gpus)
    for model in "ab":
        world.push(model)
        scaling = replace(AUTO, max=5, up_s=5.0)
        wish = DeploymentSpec(model=model, scaling=scaling, resources=Resources(gpus=each))
        world.deploy(wish, name=model)
    world.serve("c")
    in_flight = {"a": 0, "b": 0}
    for model, count, seconds in history:
        in_flight[model] = count
        for _ in range(seconds // 5):
            held = world.state.clusters["c"].assignment.versions
            assert all(1 <= version.replicas <= 5 for version in held)
            assert sum(version.replicas * each for version in held) <= gpus
            world.report(
                "c",
                [
                    replace(seen, in_flight=in_flight[seen.model], replicas=version.replicas)
                    for seen, version in zip(world.seen("c"), held, strict=True)
                ],
            )
            world.advance(5)
    step = Step(world.state, world.now, "test")
    before = world.state.clusters["c"]
    settle(step)
    assert world.state.clusters["c"] is before, "settling again changes nothing"
