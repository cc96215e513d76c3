"""What follows from a rollout for placement and routers."""

from dataclasses import replace

import pytest

from federation.contract.rollout import Wave
from federation.policy.rollouts.events import Verb
from federation.policy.rollouts.placing import Canary, canary_of, hidden, route_of, weights_of
from federation.policy.rollouts.records import Phase
from tests.federation.policy.rollouts.rollout_world import PLAIN, RolloutWorld


@pytest.fixture
def world() -> RolloutWorld:
    return RolloutWorld().begin()


def test_without_a_rollout_there_is_no_canary(world: RolloutWorld) -> None:
    assert canary_of(world.state, "m") is None
    assert route_of(world.state, "m") is None
    assert hidden(world.state) == frozenset()


def test_it_is_loaded_in_waves_that_began_and_lies_ready_in_the_next(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING, wave=1)
    assert canary_of(world.state, "m") == Canary(
        version=2, at=frozenset("abc"), ahead=frozenset("d")
    )


def test_while_it_goes_back_it_stays_then_goes_at_once(world: RolloutWorld) -> None:
    world.slow_routers = True
    world.start()
    world.until(Phase.BAKING)
    world.steer(Verb.ABORT)
    assert canary_of(world.state, "m") == Canary(version=2, at=frozenset("a"))
    assert route_of(world.state, "m") is None
    world.advance(11)
    assert canary_of(world.state, "m") == Canary(version=2, at=frozenset("a"), withdrawn=True)


def test_a_region_of_two_waves_never_gets_less(world: RolloutWorld) -> None:
    waves = (Wave(clusters=("b",)), Wave(regions=("*",)))
    world.start(strategy=replace(PLAIN, waves=waves))
    world.until(Phase.BAKING, wave=1, step=0)
    assert weights_of(world.last) == {"us": 100.0, "eu": 5.0, "ap": 5.0}


def test_a_later_wave_in_a_region_that_has_weight_is_not_seen_before_its_turn(
    world: RolloutWorld,
) -> None:
    waves = (Wave(clusters=("b",)), Wave(regions=("*",)))
    world.start(strategy=replace(PLAIN, waves=waves))
    world.until(Phase.BAKING, step=1)
    while world.last.wave == 0:
        world.advance(5)
    world.serve("c")
    assert hidden(world.state) == {("m", 2, name) for name in "acd"}
    shown = {r.cluster for r in world.snapshot().replicas if r.version == 2}
    assert shown == {"b"}
    world.until(Phase.PROGRESSING, wave=1)
    assert hidden(world.state) == frozenset()
