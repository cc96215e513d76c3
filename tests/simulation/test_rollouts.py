"""Rollouts under chaos; FED_TEST_SEEDS says how many seeds (2000 before a release), and
FED_TEST_SEED runs one of them again, with what happened in it."""

import os

import pytest

from federation.policy.rollouts.records import Phase
from tests.simulation.world import BAD, MODEL, Chances, World

SEEDS = int(os.environ.get("FED_TEST_SEEDS", "1"))
ONE = os.environ.get("FED_TEST_SEED", "")


def seeds() -> list[int]:
    return [int(ONE)] if ONE else list(range(SEEDS))


def run(world: World) -> None:
    try:
        world.run()
    except AssertionError as failure:
        for record in world.plane.state.rollouts.values():
            world.told += [
                f"{p.at:%M:%S} {record.meta.name} {p.event} {p.now} {p.reason}"
                for p in record.history
            ]
        story = "\n".join(world.told)
        raise AssertionError(
            f"{failure} (at {world.now_s:g} s; again with FED_TEST_SEED={world.seed})\n{story}"
        ) from failure


@pytest.mark.parametrize("seed", seeds())
def test_invariants_hold_under_chaos(seed: int) -> None:
    world = World(seed)
    world.spoil(MODEL, 3, BAD[seed % len(BAD)])
    run(world)


@pytest.mark.parametrize("seed", seeds())
def test_a_good_version_is_promoted_however_bad_the_network(seed: int) -> None:
    world = World(seed)
    world.people = False
    run(world)
    assert [r.phase for r in world.plane.state.rollouts.values()] == [Phase.PROMOTED]


@pytest.mark.parametrize("seed", seeds())
def test_a_bad_version_stays_in_its_first_wave(seed: int) -> None:
    world = World(seed, Chances(region_lost=0.001))
    world.people = False
    world.spoil(MODEL, 2, BAD[seed % len(BAD)])
    run(world)
    (record,) = world.plane.state.rollouts.values()
    assert record.phase is Phase.ROLLED_BACK, (seed, world.fault)
    assert record.wave == 0
    assert record.verdicts
    assert world.checks.loaded_at.get(2, set()) <= set(record.waves[0].clusters)
