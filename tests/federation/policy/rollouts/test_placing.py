"""What follows from a rollout for placement and routers."""

from dataclasses import replace

import pytest

from federation.contract.package import Golden, ModelPackage
from federation.contract.rollout import AnalysisSpec, GoldenResult, Wave
from federation.contract.types import Runtime
from federation.policy.events import ModelVersionPushed
from federation.policy.rollouts.events import Verb
from federation.policy.rollouts.placing import (
    ASK_AGAIN_S,
    Canary,
    canary_of,
    hidden,
    route_of,
    weights_of,
)
from federation.policy.rollouts.records import Phase
from tests.federation.policy.rollouts.rollout_world import PLAIN, RolloutWorld
from tests.federation.policy.world import ACTOR


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


def test_its_golden_inputs_are_asked_again_until_it_is_the_stable_version() -> None:
    world = RolloutWorld().begin()
    package = ModelPackage(name="m", runtime=Runtime.ONNX, golden=Golden(file="golden.jsonl"))
    world.do(
        ModelVersionPushed(
            actor=ACTOR, package=package, digest="m:4", size=1, files=1, source="test"
        )
    )
    world.start(4, replace(PLAIN, analysis=AnalysisSpec()))

    def asked(cluster: str) -> dict[int, int]:
        versions = world.state.clusters[cluster].assignment.versions
        return {v.version: v.golden_every_s for v in versions}

    assert asked("a") == {1: 0, 4: ASK_AGAIN_S}
    assert asked("d") == {1: 0}
    world.steer(Verb.PROMOTE, full=True)
    for _ in range(40):
        for name in world.state.clusters:
            golden = GoldenResult(inputs=1, wrong=0)
            seen = [replace(v, golden=golden) if v.version == 4 else v for v in world.seen(name)]
            world.report(name, seen)
        world.ack()
        world.advance(5)
    assert world.last.phase is Phase.PROMOTED
    assert asked("a") == asked("d") == {4: 0}


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


def test_waves_that_were_skipped_are_not_seen_before_they_have_weight(world: RolloutWorld) -> None:
    waves = (Wave(clusters=("b",)), Wave(clusters=("c",)), Wave(regions=("*",)))
    world.start(strategy=replace(PLAIN, waves=waves))
    world.until(Phase.BAKING)
    world.steer(Verb.PROMOTE, full=True)
    world.serve("c")
    assert world.last.phase is Phase.STAGING
    assert ("m", 2, "c") in hidden(world.state)


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
