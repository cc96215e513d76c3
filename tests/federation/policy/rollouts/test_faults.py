"""What agents tell that speaks against a canary."""

from dataclasses import replace

import pytest

from federation.contract.rollout import AnalysisSpec, GoldenResult, Losses
from federation.contract.sync import SyncProgress
from federation.contract.types import ObservedVersion, VersionState
from federation.policy.rollouts.records import Phase
from tests.federation.policy.rollouts.rollout_world import PLAIN, RolloutWorld


@pytest.fixture
def world() -> RolloutWorld:
    return RolloutWorld().begin()


def test_a_version_that_does_not_load_goes_back(world: RolloutWorld) -> None:
    world.start()
    world.fail("a", 2, "")
    (verdict,) = world.last.verdicts
    assert verdict.words == "version 2 failed at a: no reason was given"
    assert (verdict.metric, verdict.region) == ("load", "eu")


def test_a_transfer_that_fails_is_tried_again_for_a_while(world: RolloutWorld) -> None:
    world.start()
    sync = SyncProgress(total_bytes=10, from_origin_bytes=4)
    failed = {"state": VersionState.FAILED, "reason": "reset by peer", "sync": sync}
    world.tell("a", **failed)
    assert world.last.phase is Phase.STAGING
    assert world.last.reason == "waits for a: failed: reset by peer"
    for _ in range(61):
        world.report("b", world.seen("b"))
        world.tell("a", **failed)
        world.advance(10)
    assert world.last.phase is not Phase.STAGING


def golden(wrong: int) -> GoldenResult:
    return GoldenResult(inputs=3, wrong=wrong, words="'seven' is even")


def test_wrong_answers_go_back_before_any_traffic(world: RolloutWorld) -> None:
    world.start(strategy=replace(PLAIN, analysis=AnalysisSpec(max_wrong_inputs=1)))
    world.tell("a", golden=golden(2))
    assert world.last.phase is Phase.ROLLING_BACK
    assert world.last.verdicts[0].words == (
        "version 2 answered 2 of 3 golden inputs wrongly at a, limit 1: 'seven' is even"
    )
    assert all(passage.now is not Phase.PROGRESSING for passage in world.last.history)


@pytest.mark.parametrize(
    "analysis", [AnalysisSpec(max_wrong_inputs=2), AnalysisSpec(enabled=False)]
)
def test_as_many_wrong_answers_as_are_allowed(world: RolloutWorld, analysis: AnalysisSpec) -> None:
    world.start(strategy=replace(PLAIN, analysis=analysis))
    world.tell("a", golden=golden(2))
    assert world.last.phase in (Phase.STAGING, Phase.PROGRESSING)


def test_an_engine_that_is_lost_under_the_canary_goes_back(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    lost = [replace(v, state=VersionState.STAGED, reason="engine gone") for v in world.seen("a")]
    world.report("a", lost)
    assert world.last.phase is Phase.ROLLING_BACK
    assert world.last.verdicts[0].metric == "crash"
    assert world.last.verdicts[0].words.endswith("while version 2 was there: engine gone")
    world.until(Phase.ROLLED_BACK)
    assert world.last.losses == {"a": world.last.verdicts[0].words}


def test_an_engine_that_is_lost_while_the_canary_is_loaded_goes_back(world: RolloutWorld) -> None:
    world.start()
    verified, *_ = [v for v in world.seen("a", VersionState.VERIFIED) if v.version == 2]
    stable, *_ = [v for v in world.seen("a") if v.version == 1]
    world.report("a", [stable, verified])
    world.report("a", [replace(stable, state=VersionState.STAGED), verified])
    assert world.last.phase is Phase.ROLLING_BACK
    assert "version 1 stopped to serve at a" in world.last.verdicts[0].words


def test_an_agent_that_restarts_is_not_to_blame(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.connect("a")
    world.report("a", world.seen("a", VersionState.STAGED))
    assert world.last.phase is Phase.BAKING


def counted(world: RolloutWorld, cluster: str, times: int) -> list[ObservedVersion]:
    """All versions of a cluster warm, its version 1 after so many losses."""
    losses = Losses(times=times, words="the engine restarted") if times else None
    return [
        replace(v, losses=losses) if v.version == 1 else v
        for v in world.seen(cluster, VersionState.WARMED)
    ]


@pytest.mark.parametrize("dies", ["before the report", "after the report"])
def test_a_crash_is_not_forgotten_if_the_control_plane_dies(world: RolloutWorld, dies: str) -> None:
    """Whether its report was committed or not: the verdict comes once somebody is there again."""
    world.start()
    world.until(Phase.BAKING)
    if dies == "after the report":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("federation.policy.rollouts.machine.SLICE", 0)  # no verdict any more
            world.report("a", counted(world, "a", 1))
        assert world.last.phase is Phase.BAKING
    world.restart()
    world.connect("a")
    world.report("a", counted(world, "a", 1))
    assert world.last.phase is Phase.ROLLING_BACK
    (verdict,) = world.last.verdicts
    assert verdict.words == (
        "version 1 stopped to serve at a while version 2 was there: the engine restarted"
    )


def test_a_crash_of_the_canary_itself_is_counted_from_its_first_report(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.restart()
    world.connect("a")
    world.tell("a", losses=Losses(times=1))
    assert world.last.phase is Phase.ROLLING_BACK
    assert world.last.verdicts[0].words.startswith("version 2 stopped to serve at a while")


def test_losses_of_before_are_not_the_canary_s(world: RolloutWorld) -> None:
    world.report("a", counted(world, "a", 3))
    world.start()
    world.report("a", counted(world, "a", 3))
    world.connect("a")  # the agent began anew: it counts from none
    world.report("a", counted(world, "a", 0))
    assert world.last.phase is Phase.PROGRESSING
    assert world.last.losses == {}


def test_an_engine_that_is_lost_elsewhere_is_not_the_canary_s_fault(world: RolloutWorld) -> None:
    world.start()
    world.until(Phase.BAKING)
    world.report("d", world.seen("d", VersionState.STAGED))
    assert world.last.phase is Phase.BAKING
