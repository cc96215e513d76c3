"""What people ask of rollouts."""

from dataclasses import replace

import pytest

from federation.contract.capacity import Resources
from federation.contract.errors import Conflict, NotFound
from federation.contract.resources import DeploymentSpec
from federation.contract.rollout import RolloutSpec, Wave
from federation.contract.types import Urgency
from federation.policy.events import ObjectRemoved
from federation.policy.rollouts.events import RolloutApplied, RolloutSteered, Verb
from federation.policy.rollouts.records import Pause, Phase
from federation.policy.rollouts.requests import before
from tests.federation.policy.rollouts.rollout_world import PLAIN, RolloutWorld
from tests.federation.policy.world import ACTOR


@pytest.fixture
def world() -> RolloutWorld:
    return RolloutWorld().begin()


def test_asked_twice_it_is_one(world: RolloutWorld) -> None:
    assert world.start().meta.name == world.start().meta.name
    assert len(world.state.rollouts) == 1


def test_a_named_one_does_not_change(world: RolloutWorld) -> None:
    assert world.start(name="mine").meta.name == "mine"
    assert world.start(name="mine").meta.name == "mine"
    with pytest.raises(Conflict, match="does not change"):
        world.start(3, name="mine")
    spec = RolloutSpec(model="m", version=2, strategy=PLAIN)
    with pytest.raises(Conflict, match="exists already"):
        world.do(RolloutApplied(actor=ACTOR, name="mine", spec=spec, expected=0))


def test_pause_and_resume(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    paused = world.steer(Verb.PAUSE)
    assert (paused.phase, paused.pause, paused.reason) == (
        Phase.PAUSED,
        Pause.MANUAL,
        "ada paused it",
    )
    assert world.steer(Verb.PAUSE) == paused
    for _ in range(20):
        world.turn()
    assert world.last.phase is Phase.PAUSED
    assert world.weights() == {"eu": 5.0}
    world.steer(Verb.RESUME)
    world.until(Phase.PROMOTED)


@pytest.mark.parametrize(
    ("verb", "hint"),
    [
        (Verb.RESUME, "Only a paused"),
        (Verb.APPROVE, "No wave"),
        (Verb.PROMOTE, "not warm yet"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_story(
    world: RolloutWorld, verb: Verb, hint: str
) -> None:
    world.start()
    with pytest.raises(Conflict, match="pending -begun-> staging") as refusal:
        world.steer(verb)
    assert refusal.value.reason == "invalid-transition"
    assert hint in refusal.value.hint


def test_a_gate_is_approved_not_resumed(world: RolloutWorld) -> None:
    gate = replace(PLAIN, waves=(Wave(regions=("*",), approval=True),))
    world.start(strategy=gate)
    for verb in (Verb.RESUME, Verb.PROMOTE):
        with pytest.raises(Conflict) as refusal:
            world.steer(verb)
        assert "approve" in refusal.value.hint
    world.steer(Verb.APPROVE)
    world.until(Phase.PROMOTED)


def test_a_step_is_skipped_by_hand(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.steer(Verb.PROMOTE)
    assert (world.last.phase, world.last.step) == (Phase.PROGRESSING, 1)
    assert world.until(Phase.BAKING).step == 1
    assert not world.last.hurry


def test_all_waves_are_skipped_by_hand_and_nothing_serves_cold(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.steer(Verb.PROMOTE, full=True)
    assert (world.last.phase, world.last.wave) == (Phase.STAGING, 2)
    assert world.weights() == {"eu": 5.0}
    world.slow_routers = True
    world.until(Phase.PROGRESSING)
    assert world.weights() == {"eu": 100.0, "us": 100.0, "ap": 100.0}
    world.until(Phase.PROMOTED)


def test_one_that_has_not_begun_is_over_at_once(world: RolloutWorld) -> None:
    world.state.max_rollouts = 0
    world.start()
    world.steer(Verb.PAUSE)
    assert world.steer(Verb.ABORT).phase is Phase.ROLLED_BACK
    with pytest.raises(NotFound, match="no rollout of model 'm' goes on"):
        world.steer(Verb.ABORT)
    with pytest.raises(NotFound, match="there is no rollout 'x'"):
        world.do(RolloutSteered(actor=ACTOR, name="x", verb=Verb.ABORT))


def test_what_is_over_is_undone_not_aborted(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.PROMOTED)
    with pytest.raises(Conflict) as refusal:
        world.do(RolloutSteered(actor=ACTOR, name="m-1", verb=Verb.ABORT))
    assert refusal.value.hint == "To go back: fed rollout undo m"


def test_undo_of_one_that_goes_on_ends_it(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    assert world.undo().phase is Phase.ROLLING_BACK
    assert len(world.state.rollouts) == 1


def test_undo_goes_back_to_the_version_before(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.PROMOTED)
    world.turn()
    undone = world.undo()
    assert (undone.stable, undone.canary, undone.undo) == (2, 1, True)
    assert world.urgency("a", 1) is Urgency.ROLLBACK
    world.until(Phase.PROMOTED)
    world.turn()
    assert world.target() == 1
    assert world.state.deployments["d"].rejected == 2, "the wish means 2 still"
    assert all(world.assigned(name) == [("m", 1)] for name in "abcd")
    assert before(world.state, "m") == 2


def test_undo_goes_back_to_any_version(world: RolloutWorld) -> None:
    assert world.undo(3).canary == 3
    world.until(Phase.PROMOTED)
    assert world.target() == 3


def test_an_undo_that_is_aborted_does_not_let_in_what_was_superseded(world: RolloutWorld) -> None:
    world.start(3)
    world.undo(2)
    assert world.undo().phase is Phase.ROLLED_BACK
    for _ in range(20):
        world.turn()
    assert not world.state.going
    assert world.target() == 1, "version 3 never came further than its first wave"


def test_what_came_in_place_goes_back_in_place() -> None:
    world = RolloutWorld()
    world.cluster("a", "eu", gpus=1)
    world.push("m", "1")
    world.push("m", "2")
    world.deploy(DeploymentSpec(model="m", version=1, resources=Resources(gpus=1)))
    world.router()
    world.start(strategy=replace(PLAIN, waves=(), in_place=True))
    world.until(Phase.PROMOTED)
    world.turn()
    assert world.undo().spec.strategy.in_place
    world.until(Phase.PROMOTED)
    world.turn()
    assert world.assigned("a") == [("m", 1)]


def test_undo_of_nothing_is_refused(world: RolloutWorld) -> None:
    with pytest.raises(Conflict, match="had no other version than 1"):
        world.undo()


def test_only_what_is_over_is_forgotten(world: RolloutWorld) -> None:
    world.start()
    removed = ObjectRemoved(actor=ACTOR, kind="Rollout", name="m-1")
    with pytest.raises(Conflict, match="rollout 'm-1' is staging"):
        world.do(removed)
    world.steer(Verb.ABORT)
    world.until(Phase.ROLLED_BACK)
    world.do(removed)
    assert not world.state.rollouts


def test_a_deployment_that_goes_takes_its_rollout_with_it(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.remove("Deployment", "d")
    assert world.last.phase is Phase.FAILED
    assert all(world.assigned(name) == [] for name in "abcd")
