from dataclasses import replace
from datetime import time

import pytest

from federation.contract.capacity import Resources
from federation.contract.errors import Conflict
from federation.contract.resources import DeploymentSpec, RegionSpec
from federation.contract.rollout import FreezeWindow, RolloutSpec, RolloutStrategy, Wave
from federation.contract.types import Location
from federation.policy.events import Applied, RegionApplied
from federation.policy.rollouts.events import RolloutApplied
from federation.policy.rollouts.rollout_plan import (
    BESIDE,
    CANNOT,
    IN_PLACE,
    RolloutPlan,
    rollout_plan,
)
from tests.federation.policy.world import ACTOR, World

WAVES = (Wave(regions=("eu",)), Wave(regions=("*",), approval=True))
STRATEGY = RolloutStrategy(waves=WAVES, in_place=True)


@pytest.fixture
def world() -> World:
    """Version 1 serves at a cluster with two GPUs and at one with a single GPU."""
    made = World()
    made.cluster("eu-1", "eu", gpus=2)
    made.cluster("us-1", "us", gpus=1)
    made.push("m")
    made.push("m", "2", size=100)
    made.deploy(DeploymentSpec(model="m", version=1, resources=Resources(gpus=1)))
    for name in ("eu-1", "us-1"):
        made.report(name, made.seen(name))
    return made


def plan(
    world: World, *, in_place: bool = True, strategy: RolloutStrategy = STRATEGY
) -> RolloutPlan:
    after = World()
    after.state, after.now = world.state.copy(), world.now
    event = RolloutApplied(
        actor=ACTOR, name="", spec=RolloutSpec(model="m", version=2, strategy=strategy)
    )
    applied = after.do(event)
    assert isinstance(applied, Applied)
    return rollout_plan(world.state, after.state, applied.name, world.now, in_place=in_place)


def test_waves_say_where_both_versions_fit(world: World) -> None:
    made = plan(world)
    assert (made.model, made.stable, made.canary, made.waves) == ("m", 1, 2, 2)
    assert made.approvals == (2,)
    assert made.least_s == 2 * 3 * 120
    first, second = made.places
    assert (first.wave, first.cluster, first.fit, first.missing) == (1, "eu-1", BESIDE, 0)
    assert first.transfer is not None
    assert first.transfer.size == 100
    assert (second.wave, second.cluster, second.fit, second.missing) == (2, "us-1", IN_PLACE, 1)
    assert any("us-1 serves with 1 replicas fewer" in note for note in made.notes)
    assert world.state.rollouts == {}


def test_without_in_place_it_offers_it(world: World) -> None:
    made = plan(world, in_place=False)
    assert [place.fit for place in made.places] == [BESIDE, CANNOT]
    assert any("--in-place lets version 1 go first" in note for note in made.notes)
    with pytest.raises(Conflict) as refused:
        plan(world, strategy=replace(STRATEGY, in_place=False))
    assert refused.value.reason == "no-room"


def test_freezes_are_told(world: World) -> None:
    start = world.now.time().replace(second=0, microsecond=0)
    window = FreezeWindow(start=f"{start:%H:%M}", end=f"{time(start.hour + 1):%H:%M}")
    place = Location(latitude=1, longitude=1)
    spec = RegionSpec(location=place, freeze=(window,))
    world.do(RegionApplied(actor=ACTOR, name="eu", spec=spec))
    assert any(note.startswith("eu is frozen until") for note in plan(world).notes)
