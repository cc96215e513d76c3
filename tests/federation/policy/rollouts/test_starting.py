"""Whether a rollout may begin."""

from dataclasses import replace

import pytest

from federation.contract.capacity import Resources
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.package import ModelPackage, TensorSpec
from federation.contract.resources import DeploymentSpec
from federation.contract.rollout import AnalysisSpec, Wave
from federation.contract.types import Runtime, Scheduling
from federation.policy.events import ModelVersionPushed
from federation.policy.rollouts.events import Verb
from federation.policy.rollouts.records import Phase
from federation.policy.rollouts.starting import new_name
from tests.federation.policy.rollouts.rollout_world import PLAIN, RolloutWorld
from tests.federation.policy.world import ACTOR


@pytest.fixture
def world() -> RolloutWorld:
    return RolloutWorld().begin()


def push(world: RolloutWorld, *inputs: TensorSpec, model: str = "m") -> int:
    package = ModelPackage(name=model, runtime=Runtime.ONNX, inputs=inputs)
    return world.applied(
        ModelVersionPushed(
            actor=ACTOR, package=package, digest=f"{inputs}", size=1, files=1, source="test"
        )
    ).version


def test_it_remembers_who_wants_what_and_why(world: RolloutWorld) -> None:
    record = world.start()
    assert (record.meta.name, record.stable, record.canary) == ("m-1", 1, 2)
    assert (record.started_by, record.why, record.deployment) == (ACTOR, "a test", "d")
    assert [wave.clusters for wave in record.waves] == [("a",), ("b", "c"), ("d",)]
    assert world.state.deployments["d"].spec.version == 2
    assert world.target() == 1


def test_names_count_on(world: RolloutWorld) -> None:
    world.start()
    assert new_name(world.state, "m") == "m-2"
    assert new_name(world.state, "My.Model_X") == "my-model-x-1"


def test_the_version_that_serves_is_refused(world: RolloutWorld) -> None:
    with pytest.raises(Conflict, match="at version 1 already") as refusal:
        world.start(1)
    assert refusal.value.hint == "Its other versions are: 2, 3."


def test_a_model_that_is_deployed_nowhere_is_refused() -> None:
    world = RolloutWorld()
    world.cluster("a")
    world.push("m")
    with pytest.raises(NotFound, match="deployed nowhere"):
        world.start(1)


def test_a_strategy_without_sense_is_refused(world: RolloutWorld) -> None:
    with pytest.raises(Invalid, match="steps must rise"):
        world.start(strategy=replace(PLAIN, steps=(50.0, 5.0, 100.0)))
    with pytest.raises(Invalid, match="cannot be judged"):
        world.start(strategy=replace(PLAIN, analysis=AnalysisSpec(max_error_rate=0.0)))
    with pytest.raises(Invalid, match="no wave has"):
        world.start(strategy=replace(PLAIN, waves=(Wave(regions=("eu",)),)))


def test_another_signature_is_refused_unless_it_is_allowed(world: RolloutWorld) -> None:
    version = push(world, TensorSpec(name="x", datatype="FP32", shape=(-1,)))
    with pytest.raises(Invalid, match=r"input 'x': none, then FP32\[-1\]") as refusal:
        world.start(version)
    assert "--allow-signature-change" in refusal.value.hint
    world.start(version, replace(PLAIN, allow_signature_change=True))


def full() -> RolloutWorld:
    """Each cluster has room for one replica."""
    world = RolloutWorld()
    for name, region in (("a", "eu"), ("b", "us")):
        world.cluster(name, region, gpus=1)
    for content in "12":
        world.push("m", content)
    world.deploy(DeploymentSpec(model="m", version=1, resources=Resources(gpus=1)))
    world.router()
    world.serve_all()
    return world


def test_where_both_do_not_fit_it_says_so_with_names() -> None:
    world = full()
    with pytest.raises(Conflict) as refusal:
        world.start(strategy=replace(PLAIN, waves=()))
    assert refusal.value.reason == "no-room"
    assert refusal.value.message.startswith(
        "version 2 of model 'm' has no room besides version 1 at a ("
    )
    assert "--in-place" in refusal.value.hint


def test_in_place_the_stable_version_goes_first() -> None:
    world = full()
    strategy = replace(PLAIN, waves=(Wave(regions=("eu",)), Wave(regions=("*",))), in_place=True)
    world.start(strategy=strategy)
    assert (world.assigned("a"), world.staged("a")) == ([("m", 2)], [("m", 2)])
    world.serve("a")
    assert (world.assigned("a"), world.staged("a")) == ([("m", 2)], [])
    assert ("m", 1) in world.assigned("b")
    world.until(Phase.PROMOTED)
    assert world.assigned("b") == [("m", 2)]


def test_in_place_it_also_goes_back() -> None:
    world = full()
    world.start(strategy=replace(PLAIN, waves=(), in_place=True))
    world.until(Phase.BAKING)
    world.fail("a", 2)
    world.until(Phase.ROLLED_BACK)
    world.turn()
    assert world.assigned("a") == world.assigned("b") == [("m", 1)]
    assert world.staged("a") == []


def test_in_place_what_goes_back_is_unloaded_before_the_other_is_loaded() -> None:
    world = full()
    world.start(strategy=replace(PLAIN, waves=(), in_place=True))
    world.until(Phase.BAKING)
    world.steer(Verb.ABORT)
    for _ in range(20):
        world.ack()
        world.advance(1)
        assert world.last.phase is Phase.ROLLING_BACK
        if world.staged("a"):
            break
    assert (world.assigned("a"), world.staged("a")) == ([("m", 1)], [("m", 1)])
    world.serve("a")
    assert (world.assigned("a"), world.staged("a")) == ([("m", 1)], [])


def test_one_that_begins_while_another_is_in_place_has_all_clusters() -> None:
    world = full()
    world.push("m", "3")
    in_place = replace(PLAIN, waves=(), in_place=True)
    world.start(2, in_place)
    assert world.staged("a") == [("m", 2)], "the stable version left it already"
    assert world.start(3, in_place).waves[0].clusters == ("a", "b")


def test_where_another_one_in_place_goes_back_there_is_no_room_besides() -> None:
    world = full()
    world.start(2, replace(PLAIN, waves=(), in_place=True))
    world.until(Phase.BAKING)
    with pytest.raises(Conflict, match="no room besides version 1"):
        world.start(2, replace(PLAIN, waves=()))


def test_a_cordoned_cluster_is_passed_over() -> None:
    world = full()
    world.schedule("a", Scheduling.CORDONED)
    with pytest.raises(Conflict, match=r" at b \("):
        world.start(strategy=replace(PLAIN, waves=()))
