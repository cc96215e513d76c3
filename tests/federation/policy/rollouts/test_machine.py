"""Rollouts from their beginning to their end, by events and time alone."""

from dataclasses import replace

import pytest

from federation.contract.resources import RegionSpec
from federation.contract.rollout import (
    AnalysisSpec,
    FreezeWindow,
    OnInconclusive,
    Wave,
)
from federation.contract.types import Location
from federation.policy.analysis.verdict import Outcome
from federation.policy.events import RegionApplied
from federation.policy.records import PERSISTENT
from federation.policy.rollouts.events import Verb
from federation.policy.rollouts.machine import SLICE, beginning, look
from federation.policy.rollouts.records import Pause, Phase
from federation.policy.state import State, Step
from federation.store.records import decode, encode
from tests.federation.policy.rollouts.rollout_world import PLAIN, RolloutWorld
from tests.federation.policy.world import ACTOR


@pytest.fixture
def world() -> RolloutWorld:
    return RolloutWorld().begin()


def test_it_goes_through_its_waves_and_steps(world: RolloutWorld) -> None:
    world.start()
    told = []
    while not world.last.over:
        before = world.last.phase
        world.turn()
        if (now := world.last).phase is not before and now.phase is Phase.BAKING:
            told.append((now.wave, now.step, world.weights()))
    assert told == [
        (0, 0, {"eu": 5.0}),
        (0, 1, {"eu": 100.0}),
        (1, 0, {"eu": 100.0, "us": 5.0}),
        (1, 1, {"eu": 100.0, "us": 100.0}),
        (2, 0, {"eu": 100.0, "us": 100.0, "ap": 5.0}),
        (2, 1, {"eu": 100.0, "us": 100.0, "ap": 100.0}),
    ]
    assert world.last.phase is Phase.PROMOTED
    assert all(wave.promoted_at for wave in world.last.waves)
    world.turn()
    assert world.target() == 2
    assert all(world.assigned(name) == [("m", 2)] for name in "abcd")
    assert world.snapshot().models[0].default_version == 2


def test_the_next_wave_lies_ready_and_the_stable_version_stays(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING, wave=1)
    assert [world.staged(name) for name in "abcd"] == [[], [], [], [("m", 2)]]
    assert all(("m", 1) in world.assigned(name) for name in "abcd")


def test_nothing_has_traffic_before_it_is_warm(world: RolloutWorld) -> None:
    world.start()
    world.advance(60)
    assert world.last.phase is Phase.STAGING
    assert "a: " in world.last.reason
    assert world.weights() == {}


def test_a_weight_counts_once_routers_have_it_or_had_time(world: RolloutWorld) -> None:
    world.slow_routers = True
    world.start()
    world.serve_all()
    world.advance(0)
    world.advance(9)
    assert world.last.phase is Phase.PROGRESSING
    world.ack()
    world.until(Phase.BAKING)
    world.advance(31)
    world.advance(10)
    assert (world.last.phase, world.last.step) == (Phase.BAKING, 1)  # nobody answered for 10 s


@pytest.mark.parametrize("wave", [0, 1, 2])
@pytest.mark.parametrize("phase", [Phase.STAGING, Phase.PROGRESSING, Phase.BAKING])
def test_an_abort_ends_in_the_old_assignment(world: RolloutWorld, wave: int, phase: Phase) -> None:
    before = {name: world.assigned(name) for name in "abcd"}
    world.slow_routers = phase is Phase.PROGRESSING
    world.start()
    world.until(phase, wave=wave)
    world.steer(Verb.ABORT)
    assert world.weights() == {}
    world.until(Phase.ROLLED_BACK)
    assert {name: world.assigned(name) for name in "abcd"} == before
    assert world.state.deployments["d"].rejected == 2
    world.turn()
    assert world.target() == 1


def test_the_canary_stays_until_routers_have_let_go_of_it(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.slow_routers = True
    world.steer(Verb.ABORT)
    world.turn(5)
    assert ("m", 2) in world.assigned("a")
    world.ack()
    world.advance(0)
    assert ("m", 2) not in world.assigned("a")


def test_a_failing_wave_goes_back_and_names_the_cause(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.STAGING, wave=1)
    world.fail("b", 2)
    assert world.last.phase is Phase.ROLLING_BACK
    (verdict,) = world.last.verdicts
    assert (verdict.outcome, verdict.region, verdict.metric) == (Outcome.FAILED, "us", "load")
    assert verdict.words == "version 2 failed at b: opset 99"
    world.until(Phase.ROLLED_BACK)
    assert world.assigned("d") == [("m", 1)]


def test_a_paused_canary_that_fails_goes_back_though_everybody_sleeps(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.steer(Verb.PAUSE)
    world.fail("a", 2)
    assert world.last.phase is Phase.ROLLING_BACK


def test_a_cluster_out_of_contact_is_not_waited_for_and_converges(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING, wave=0)
    world.silence("c")
    world.until(Phase.PROGRESSING, wave=1)
    assert any("without c: out of contact" in p.reason for p in world.last.history)
    world.until(Phase.PROMOTED)
    assert world.assigned("c") == [("m", 1), ("m", 2)]
    world.connect("c")
    world.turn()
    assert world.assigned("c") == [("m", 2)]


def test_a_region_of_which_nobody_is_in_contact_holds_it(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING, wave=2, step=1)
    world.silence("a")
    for _ in range(20):
        world.turn()
    assert world.last.phase is Phase.BAKING
    assert "a: out of contact, as all of region 'eu'" in world.last.reason
    world.connect("a")
    world.until(Phase.PROMOTED)


def test_a_gate_waits_for_a_person(world: RolloutWorld) -> None:
    waves = (Wave(regions=("eu",), approval=True), Wave(regions=("*",), approval=True))
    world.start(strategy=replace(PLAIN, waves=waves))
    world.turn()
    assert (world.last.phase, world.last.pause) == (Phase.PAUSED, Pause.GATE)
    assert world.assigned("a") == [("m", 1)]
    world.steer(Verb.APPROVE)
    world.until(Phase.PAUSED)
    assert (world.last.wave, world.last.step, world.last.pause) == (0, 1, Pause.GATE)
    world.steer(Verb.APPROVE)
    assert world.until(Phase.PROMOTED).waves[1].approved_by == ACTOR


def freeze(world: RolloutWorld, region: str, *windows: FreezeWindow) -> None:
    spec = RegionSpec(location=Location(latitude=1.0, longitude=1.0), freeze=windows)
    world.applied(RegionApplied(actor=ACTOR, name=region, spec=spec))


def test_a_freeze_holds_the_wave_of_its_region_until_it_ends(world: RolloutWorld) -> None:
    freeze(world, "us", FreezeWindow(start="00:00", end="02:00"))
    world.start()
    found = world.until(Phase.PAUSED)
    assert (found.wave, found.pause) == (0, Pause.FREEZE)
    assert found.reason == "us is frozen until 2026-01-01 02:00 UTC"
    world.advance(3600)
    assert world.last.phase is Phase.PAUSED
    world.advance(3600)
    assert world.until(Phase.BAKING, wave=1).wave == 1


def test_a_freeze_that_is_taken_away_ends_at_once(world: RolloutWorld) -> None:
    freeze(world, "eu", FreezeWindow(start="00:00", end="02:00"))
    world.start()
    assert world.last.phase is Phase.PAUSED
    freeze(world, "eu")
    world.advance(1)
    assert world.last.phase is not Phase.PAUSED


def test_without_a_verdict_a_person_is_asked_or_it_goes_on(world: RolloutWorld) -> None:
    analysis = AnalysisSpec(max_bake_s=60.0)
    world.start(strategy=replace(PLAIN, analysis=analysis))
    found = world.until(Phase.PAUSED)
    assert found.pause is Pause.INCONCLUSIVE
    assert found.reason.startswith("inconclusive: ")
    world.steer(Verb.PROMOTE)
    assert world.until(Phase.BAKING).step == 1
    world.steer(Verb.ABORT)
    world.until(Phase.ROLLED_BACK)
    promotes = replace(analysis, on_inconclusive=OnInconclusive.PROMOTE)
    world.start(strategy=replace(PLAIN, analysis=promotes))
    world.until(Phase.PROMOTED)


def test_only_so_many_go_on_at_once(world: RolloutWorld) -> None:
    world.state.max_rollouts = 0
    world.start()
    world.turn()
    assert world.last.phase is Phase.PENDING
    assert world.last.reason == "it waits: 0 rollouts go on, as many as may"
    world.state.max_rollouts = 1
    world.steer(Verb.PAUSE)
    world.steer(Verb.RESUME)
    world.until(Phase.STAGING)


def test_a_later_rollout_takes_the_place_of_one_that_goes_on(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING, wave=1)
    second = world.start(3)
    first = world.rollout("m-1")
    assert (first.phase, first.superseded_by) == (Phase.ROLLING_BACK, second.meta.name)
    assert second.phase is Phase.PENDING
    world.until(Phase.STAGING)
    assert world.rollout("m-1").phase is Phase.ROLLED_BACK
    assert ("m", 2) not in world.assigned("a")
    world.until(Phase.PROMOTED)
    assert world.target() == 3


def reload(world: RolloutWorld) -> None:
    """What a kill -9 leaves: the store's bytes."""
    records = {
        kind: {name: decode(kind, encode(r)) for name, r in world.state.table(kind).items()}
        for kind in PERSISTENT
    }
    for kind, table in records.items():
        world.state.table(kind).clear()
        world.state.table(kind).update(table)
    world.restart()
    for name in world.state.clusters:
        world.connect(name)
    world.router()


@pytest.mark.parametrize("aborted", [False, True])
def test_after_a_kill_at_each_transition_it_goes_on_from_there(
    world: RolloutWorld, aborted: bool
) -> None:
    world.start()
    told = set()
    for _ in range(300):
        before = world.last
        if before.over:
            break
        if before.history[-1] not in told:
            told.add(before.history[-1])
            reload(world)
            after = world.last
            assert (after.phase, after.wave, after.step) == (before.phase, before.wave, before.step)
            assert after.waves == before.waves
            assert after.history == before.history
        if aborted and (before.wave, before.phase) == (1, Phase.BAKING):
            world.steer(Verb.ABORT)
        world.turn()
    assert world.last.phase is (Phase.ROLLED_BACK if aborted else Phase.PROMOTED)
    moves = [(p.event, p.wave, p.step) for p in world.last.history]
    assert len(moves) == len(set(moves)), "something was done twice"


def test_only_a_few_are_looked_at_with_each_batch_of_events() -> None:
    state = State()
    world = RolloutWorld().begin()
    record = world.start()
    for number in range(3 * SLICE):
        state.rollouts[f"x{number}"] = replace(record, phase=Phase.PROMOTED)
        state.rollout_due[f"x{number}"] = world.now
    look(Step(state, world.now, "control-plane"))
    assert len(state.rollout_due) == 2 * SLICE


def test_after_a_start_routers_get_time_to_come_back(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.steer(Verb.ABORT)
    world.restart()
    for name in world.state.clusters:
        world.connect(name)
    assert world.last.weighed_at is None, "no router is known yet"
    world.advance(11)
    assert world.last.weighed_at is not None


def test_a_model_whose_rollout_begins_with_this_batch_is_settled_once(world: RolloutWorld) -> None:
    """What begins has another wish at once: to look at all clusters before is for nothing."""

    def soon() -> frozenset[str]:
        return beginning(Step(world.state, world.now, "test"))

    assert soon() == frozenset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("federation.policy.rollouts.machine.SLICE", 0)
        world.start()
    assert soon() == {"m"}
    world.advance(1)
    assert world.last.phase is Phase.STAGING
    assert soon() == frozenset()
    world.start(3)  # of two rollouts the older one goes back first
    assert soon() == frozenset()
