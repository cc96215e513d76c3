"""Which versions a cluster is given while two of them are wanted."""

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
    assert given(world, canary) == [(2, False)]


def test_in_place_both_stay_where_both_fit() -> None:
    canary = Canary(version=2, at=frozenset("c"), in_place=True)
    assert given(world_of(2), canary) == [(1, False), (2, False)]
