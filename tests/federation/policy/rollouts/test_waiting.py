"""What a rollout waits for."""

import pytest

from federation.contract.types import Scheduling, VersionState
from federation.policy.rollouts.records import Phase
from federation.policy.rollouts.waiting import (
    canary_left,
    members,
    routers_have,
    seen,
    told,
)
from tests.federation.policy.rollouts.rollout_world import RolloutWorld


@pytest.fixture
def world() -> RolloutWorld:
    made = RolloutWorld().begin()
    made.start()
    made.until(Phase.BAKING, wave=1, step=0)
    return made


def test_all_are_warm(world: RolloutWorld) -> None:
    group = members(world.state, world.last)
    assert group.warm == ("a", "b", "c")
    assert not group.awaited
    assert not group.missing


def test_what_is_on_its_way_is_awaited_with_its_state(world: RolloutWorld) -> None:
    world.tell("b", state=VersionState.LOADED, reason="slow")
    assert members(world.state, world.last).awaited == {"b": "loaded: slow"}


def test_of_a_region_one_in_contact_is_enough(world: RolloutWorld) -> None:
    world.silence("b")
    group = members(world.state, world.last)
    assert (group.missing, group.awaited) == ({"b": "out of contact"}, {})
    world.silence("c")
    assert set(members(world.state, world.last).awaited) == {"c"}


def test_one_that_drains_or_was_deleted_is_not_asked(world: RolloutWorld) -> None:
    world.schedule("a", Scheduling.DRAINING)
    world.remove("Cluster", "b")
    assert members(world.state, world.last).warm == ("c",)


def test_many_are_told_in_short() -> None:
    assert told({f"c{n}": "pending" for n in range(6)}) == (
        "c0: pending; c1: pending; c2: pending; c3: pending; and 2 more"
    )


def test_what_a_cluster_told_last(world: RolloutWorld) -> None:
    found = seen(world.state, "a", world.last)
    assert found is not None
    assert found.state is VersionState.WARMED
    assert seen(world.state, "x", world.last) is None


def test_a_router_that_has_an_older_snapshot_is_waited_for(world: RolloutWorld) -> None:
    world.slow_routers = True
    record = world.until(Phase.PROGRESSING)
    assert not routers_have(world.state, record, world.now)
    world.ack()
    assert world.last.phase is Phase.BAKING


def test_where_the_canary_may_be_left(world: RolloutWorld) -> None:
    assert canary_left(world.state, world.last) == [], "it is wanted there"
