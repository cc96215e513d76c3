from dataclasses import replace
from datetime import timedelta

import pytest

from federation.contract.rollout import AnalysisSpec, GoldenResult, VersionCounts
from federation.contract.sync import SyncProgress
from federation.contract.types import ObservedVersion, VersionState
from federation.policy.analysis.analysis import Analysis
from federation.policy.analysis.counting import reports_by_region
from federation.policy.analysis.limits import limits_of
from federation.policy.analysis.verdict import Outcome
from federation.policy.rollouts.records import (
    Passage,
    Pause,
    Phase,
    RolloutRecord,
    VerdictRecord,
)
from federation.policy.rollouts.rollout_view import (
    next_at,
    regions_of,
    rollout_status,
    so_far,
    wave_state,
    weights,
)
from federation.policy.state import State
from tests.federation.policy.rollouts.test_next_words import AT, RECORD, at
from tests.federation.policy.world import World

WEIGHED = (replace(RECORD.waves[0], weight=25.0), RECORD.waves[1])


def seen(record: RolloutRecord, state: State | None = None) -> dict[str, object]:
    return rollout_status(state or State(), record, AT)


def test_waves_and_steps_count_from_one() -> None:
    told = seen(at(Phase.BAKING, wave=1, step=2))
    assert [told[key] for key in ("wave", "of_waves", "step", "of_steps")] == [2, 2, 3, 3]
    refused = seen(at(Phase.FAILED, waves=()))
    assert (refused["wave"], refused["of_waves"], refused["waves"]) == (0, 0, [])


def test_weights_are_those_that_were_ordered() -> None:
    assert weights(at(Phase.BAKING, waves=WEIGHED), State()) == {"eu": 25.0}
    both = (*WEIGHED, replace(WEIGHED[0], weight=5.0))
    assert weights(at(Phase.BAKING, waves=both), State()) == {"eu": 25.0}
    for phase, share in ((Phase.ROLLING_BACK, 0.0), (Phase.PROMOTED, 25.0)):
        over = at(phase, waves=WEIGHED)
        assert weights(over, State()) == {}
        wave = seen(over)["waves"][0]  # type: ignore[index]
        assert (wave["weight"], wave["regions"][0]["weight"]) == (share, share)


@pytest.mark.parametrize(
    ("phase", "wave", "words"),
    [
        (Phase.PENDING, 0, ["waiting", "waiting"]),
        (Phase.BAKING, 0, ["now", "next"]),
        (Phase.STAGING, 1, ["done", "now"]),
        (Phase.PROMOTED, 1, ["done", "done"]),
        (Phase.ROLLING_BACK, 0, ["back", "waiting"]),
    ],
)
def test_a_wave_is_told_in_a_word(phase: Phase, wave: int, words: list[str]) -> None:
    record = at(phase, wave=wave)
    assert [wave_state(record, index) for index in (0, 1)] == words


def test_when_it_goes_on() -> None:
    assert next_at(at(Phase.BAKING, weighed_at=AT)) == AT + timedelta(seconds=300)
    assert next_at(at(Phase.BAKING)) is None
    assert next_at(at(Phase.PAUSED, pause=Pause.FREEZE, frozen_until=AT)) == AT
    assert next_at(at(Phase.STAGING, weighed_at=AT)) is None


def test_verdicts_of_regions_stand_at_their_region() -> None:
    old = VerdictRecord(outcome=Outcome.PASSED, words="fine", region="eu", at=AT)
    new = replace(old, outcome=Outcome.FAILED, words="p95 +38 %", at=AT + timedelta(seconds=1))
    whole = replace(old, region="", words="so far so good")
    told = seen(at(Phase.BAKING, verdicts=(new, old, whole)))
    assert told["verdict"]["words"] == "so far so good"  # type: ignore[index]
    wave = told["waves"][0]  # type: ignore[index]
    assert wave["regions"][0]["verdict"]["words"] == "p95 +38 %"
    assert told["waves"][1]["regions"][0]["verdict"] is None  # type: ignore[index]


def test_the_history_is_told_with_its_newest_part() -> None:
    passage = Passage(
        at=AT, event="begun", was=Phase.PENDING, now=Phase.STAGING, wave=0, step=0, actor="ada"
    )
    told = seen(at(Phase.STAGING, history=(passage,) * 150))
    assert len(told["history"]) == 100  # type: ignore[arg-type]
    assert told["history"][0]["wave"] == 1  # type: ignore[index]


def test_clusters_tell_how_far_the_bytes_are() -> None:
    world = World()
    world.region("eu")
    world.cluster("eu-1", "eu")
    world.push("m")
    world.push("m", "2", size=100)
    digest = world.state.models["m"].versions[1].digest
    progress = SyncProgress(total_bytes=100, done_bytes=62, bytes_per_second=5.0, eta_s=7.0)
    pending = ObservedVersion(
        model="m",
        version=2,
        digest=digest,
        state=VersionState.PENDING,
        sync=progress,
        golden=GoldenResult(inputs=3, wrong=1, words="input 2"),
    )
    world.report("eu-1", versions=(pending,))
    record = at(Phase.STAGING)
    (told,) = seen(record, world.state)["waves"][0]["regions"][0]["clusters"]  # type: ignore[index]
    assert told["cluster"] == "eu-1"
    assert (told["state"], told["done_bytes"], told["eta_s"]) == ("pending", 62, 7.0)
    assert told["golden"] == {"inputs": 3, "wrong": 1, "words": "input 2"}
    assert regions_of(world.state, record.waves[0]) == ("eu",)
    gone = replace(record.waves[0], regions=())
    assert regions_of(world.state, gone) == ("eu",)


def test_what_was_counted_so_far() -> None:
    state, record = State(), at(Phase.BAKING, waves=WEIGHED)
    assert so_far(state, record, "eu") == ""
    analysis = Analysis.begin(limits_of(AnalysisSpec(), bake_s=120.0), 1)
    analysis.open("eu", 0.0)
    analysis.weigh("eu", 25.0, 0.0)
    state.desk.analyses["m-2"] = analysis
    assert so_far(state, record, "eu") == ""  # no router told of it yet
    versions = [
        VersionCounts(model="m", version=v, region="eu", requests=(n,) * 32, errors=(e,) * 32)
        for v, n, e in ((1, 90, 1), (2, 10, 0))
    ]
    for sequence in (1, 2):
        counts = [replace(v, requests=tuple(n * sequence for n in v.requests)) for v in versions]
        run = ("r", "i", sequence)
        for region, report in reports_by_region(run, counts, ("m", 1, 2), ("eu",)).items():
            analysis.take(region, report, 10.0 * sequence)
    assert "errors" in so_far(state, record, "eu")
    assert "requests" in so_far(state, record, "eu")
    told = seen(record, state)["waves"][0]["regions"][0]  # type: ignore[index]
    assert told["so_far"] == so_far(state, record, "eu")
