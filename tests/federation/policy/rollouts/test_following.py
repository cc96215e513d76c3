"""Wishes that mean another version than before."""

from dataclasses import replace

import pytest

from federation.contract.package import ModelPackage, TensorSpec
from federation.contract.resources import DeploymentSpec
from federation.contract.types import Runtime
from federation.policy.events import AliasMoved, ModelVersionPushed
from federation.policy.rollouts.events import Verb
from federation.policy.rollouts.records import Phase
from tests.federation.policy.rollouts.rollout_world import PLAIN, RolloutWorld
from tests.federation.policy.world import ACTOR


@pytest.fixture
def world() -> RolloutWorld:
    """The deployment follows an alias, by rollouts."""
    made = RolloutWorld().begin()
    alias(made, 1)
    made.deploy(DeploymentSpec(model="m", version="prod", rollout=PLAIN))
    return made


def alias(world: RolloutWorld, version: int) -> None:
    world.applied(AliasMoved(actor=ACTOR, model="m", alias="prod", version=version))


def test_an_alias_that_moves_starts_a_rollout(world: RolloutWorld) -> None:
    alias(world, 2)
    assert (world.last.canary, world.last.phase, world.target()) == (2, Phase.STAGING, 1)
    world.until(Phase.PROMOTED)
    world.turn()
    assert (world.target(), len(world.state.rollouts)) == (2, 1)


def test_a_new_version_starts_one_where_the_newest_is_wished_for(world: RolloutWorld) -> None:
    world.deploy(DeploymentSpec(model="m", version=0, rollout=PLAIN))
    assert world.last.canary == 3
    world.push("m", "4")
    assert world.last.canary == 4
    assert world.rollout("m-1").phase is Phase.ROLLING_BACK
    world.until(Phase.PROMOTED)
    assert world.target() == 4


def test_a_wish_that_goes_back_ends_it(world: RolloutWorld) -> None:
    alias(world, 2)
    world.until(Phase.BAKING)
    alias(world, 1)
    assert world.last.reason == "version 1 is wished for again"
    world.until(Phase.ROLLED_BACK)
    alias(world, 2)
    assert len(world.state.rollouts) == 2, "it was not rejected: somebody changed their mind"


def test_what_was_rejected_is_not_tried_again_until_it_is_wished_anew(world: RolloutWorld) -> None:
    alias(world, 2)
    world.steer(Verb.ABORT)
    world.until(Phase.ROLLED_BACK)
    for _ in range(3):
        world.turn()
    assert world.state.deployments["d"].rejected == 2
    assert len(world.state.rollouts) == 1
    alias(world, 1)
    assert world.state.deployments["d"].rejected == 0
    alias(world, 2)
    assert len(world.state.rollouts) == 2


def test_one_that_must_not_begin_is_written_down(world: RolloutWorld) -> None:
    tensor = TensorSpec(name="x", datatype="FP32", shape=(-1,))
    package = ModelPackage(name="m", runtime=Runtime.ONNX, inputs=(tensor,))
    world.do(
        ModelVersionPushed(actor=ACTOR, package=package, digest="x", size=1, files=1, source="test")
    )
    alias(world, 4)
    assert world.last.phase is Phase.FAILED
    assert "another signature" in world.last.reason
    assert (world.target(), world.state.deployments["d"].rejected) == (1, 4)
    world.turn()
    assert len(world.state.rollouts) == 1


def test_without_a_strategy_it_changes_everywhere_at_once(world: RolloutWorld) -> None:
    alias(world, 2)
    world.until(Phase.BAKING)
    world.deploy(DeploymentSpec(model="m", version=3))
    assert world.last.phase is Phase.ROLLING_BACK
    assert world.target() == 3
    world.until(Phase.ROLLED_BACK)
    world.turn()
    assert world.assigned("a") == [("m", 3)]


def test_a_changed_deployment_does_not_disturb_it(world: RolloutWorld) -> None:
    alias(world, 2)
    held = world.state.deployments["d"].spec
    world.deploy(replace(held, replicas=2))
    assert world.last.phase is Phase.STAGING
    assert len(world.state.rollouts) == 1
