"""Which versions a cluster is given while two of them are wanted."""

from dataclasses import replace

from federation.contract.capacity import Resources
from federation.contract.resources import DeploymentSpec
from federation.contract.types import AssignedVersion
from federation.policy.giving import place
from federation.policy.placement import Wish, wish_of
from federation.policy.rollouts.placing import Canary
from federation.policy.rooms import Room, Rooms
from tests.federation.policy.world import World


class Everywhere:
    def here(self, room: Room, version: AssignedVersion) -> bool:
        return True

    def elsewhere(self, room: Room, number: int) -> bool:
        return True

    def known(self, room: Room) -> bool:
        return True


class Unknown(Everywhere):
    def known(self, room: Room) -> bool:
        return False


def world_of(gpus: int) -> World:
    world = World()
    world.cluster("c", gpus=gpus)
    for content in "12":
        world.push("m", content)
    world.deploy(DeploymentSpec(model="m", version=1, resources=Resources(gpus=1)))
    world.serve("c")
    return world


def given(world: World, canary: Canary | None, *, chosen: bool = True) -> list[tuple[int, bool]]:
    wish: Wish = wish_of(world.state.deployments["d"], world.state.models["m"], canary=canary)
    versions = place(wish, Rooms(world.state)["c"], chosen=chosen, warmth=Everywhere())
    return [(v.version, v.stage_only) for v in versions]


def test_without_a_canary_there_is_the_target_alone() -> None:
    assert given(world_of(2), None) == [(1, False)]


def test_a_canary_comes_beside_it_where_its_wave_began() -> None:
    world = world_of(2)
    assert given(world, Canary(version=2, at=frozenset("c"))) == [(1, False), (2, False)]
    assert given(world, Canary(version=2, at=frozenset("x"))) == [(1, False)]


def test_without_room_it_does_not_come() -> None:
    assert given(world_of(1), Canary(version=2, at=frozenset("c"))) == [(1, False)]


def test_in_place_it_lies_ready_until_the_other_is_unloaded() -> None:
    world = world_of(1)
    canary = Canary(version=2, at=frozenset("c"), in_place=True)
    assert given(world, canary) == [(2, True)]
    world.report("c", [])
    assert given(world, canary) == [(2, True)], "it was told to serve the other until now"
    swap(world)
    assert given(world, canary) == [(2, False)]


def swap(world: World) -> None:
    """Have the cluster assigned version 2 in place of version 1, for want of room."""
    record = world.state.clusters["c"]
    (old,) = record.assignment.versions
    new = replace(old, version=2, digest="2", stage_only=True)
    assignment = replace(record.assignment, versions=(new,))
    world.state.clusters["c"] = replace(record, assignment=assignment)


def test_what_lies_ready_for_want_of_room_waits_on_when_the_rollout_is_over() -> None:
    world = world_of(1)
    held = replace(world.state.deployments["d"], target=2)
    swap(world)
    world.state.deployments["d"] = held
    assert given(world, None) == [(2, True)], "the engine has the other one still"
    world.report("c", [])
    swap(world)
    world.state.deployments["d"] = held
    assert given(world, None) == [(2, False)]


def test_in_place_a_report_about_another_assignment_is_no_word_of_the_engine() -> None:
    world = world_of(1)
    world.report("c", [])
    swap(world)
    canary = Canary(version=2, at=frozenset("c"), in_place=True)
    wish = wish_of(world.state.deployments["d"], world.state.models["m"], canary=canary)
    versions = place(wish, Rooms(world.state)["c"], chosen=True, warmth=Unknown())
    assert [(v.version, v.stage_only) for v in versions] == [(2, True)]


def test_in_place_both_stay_where_both_fit() -> None:
    canary = Canary(version=2, at=frozenset("c"), in_place=True)
    assert given(world_of(2), canary) == [(1, False), (2, False)]
