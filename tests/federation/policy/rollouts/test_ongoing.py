"""Which rollouts go on, and when each is looked at."""

from dataclasses import replace
from datetime import timedelta

import pytest

from federation.policy.rollouts import ongoing
from federation.policy.rollouts.events import Verb
from federation.policy.rollouts.records import Phase, going_by_model
from federation.policy.state import Step
from tests.federation.policy.rollouts.rollout_world import RolloutWorld


@pytest.fixture
def world() -> RolloutWorld:
    return RolloutWorld().begin()


def test_the_index_knows_what_goes_on(world: RolloutWorld) -> None:
    assert ongoing.newest(world.state, "m") is None
    world.start()
    world.until(Phase.BAKING)
    world.start(3)
    assert world.state.going == {"m": ("m-1", "m-2")} == going_by_model(world.state.rollouts)
    moving, newest = ongoing.moving(world.state, "m"), ongoing.newest(world.state, "m")
    assert moving is not None
    assert newest is not None
    assert (moving.meta.name, newest.meta.name) == ("m-1", "m-2")
    world.until(Phase.PROMOTED)
    assert world.state.going == {} == going_by_model(world.state.rollouts)
    assert list(ongoing.all_going(world.state)) == []


def test_what_is_over_leaves_nothing_behind(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.steer(Verb.ABORT)
    world.until(Phase.ROLLED_BACK)
    state = world.state
    left = (state.rollout_due, state.rollout_sent, state.evidence)
    assert left == ({}, {}, {})


def test_only_so_many_are_remembered(world: RolloutWorld) -> None:
    record = world.start()
    for number in range(ongoing.KEPT + 5):
        world.now += timedelta(seconds=1)
        step = Step(world.state, world.now, "ada")
        meta = replace(step.new_meta(f"x-{number}"))
        over = replace(record, meta=meta, phase=Phase.PROMOTED, ended_at=world.now)
        ongoing.put(step, over)
    names = [name for name in world.state.rollouts if name.startswith("x-")]
    assert len(names) == ongoing.KEPT
    assert names[0] == "x-5"


def test_the_earliest_look_counts(world: RolloutWorld) -> None:
    step = Step(world.state, world.now, "ada")
    ongoing.look_at(step, "x", world.now + timedelta(seconds=9))
    ongoing.look_at(step, "x", world.now + timedelta(seconds=5))
    ongoing.look_at(step, "x", world.now + timedelta(seconds=7))
    assert world.state.rollout_due["x"] == world.now + timedelta(seconds=5)


def test_news_of_a_model_have_its_rollout_looked_at(world: RolloutWorld) -> None:
    world.start()
    world.state.rollout_due.clear()
    step = Step(world.state, world.now, "ada")
    ongoing.look_for(step, {"other"})
    assert not world.state.rollout_due
    ongoing.look_for(step, {"m", "other"})
    assert set(world.state.rollout_due) == {"m-1"}


def test_who_waits_for_routers(world: RolloutWorld) -> None:
    world.slow_routers = True
    world.start()
    assert not ongoing.waits_for_routers(world.state, "m")
    world.until(Phase.PROGRESSING)
    assert ongoing.waits_for_routers(world.state, "m")
    world.steer(Verb.ABORT)
    assert ongoing.waits_for_routers(world.state, "m")
