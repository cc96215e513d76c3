from dataclasses import replace
from datetime import UTC, datetime

import pytest

from federation.contract.rollout import AnalysisSpec, RolloutSpec, RolloutStrategy
from federation.policy.meta import Meta
from federation.policy.rollouts.next_words import commands, next_words
from federation.policy.rollouts.records import Pause, Phase, RolloutRecord, WaveRecord

AT = datetime(2026, 1, 1, tzinfo=UTC)
WAVES = (
    WaveRecord(regions=("eu",), clusters=("eu-1",)),
    WaveRecord(regions=("us", "ap"), clusters=("us-1", "ap-1"), approval=True),
)
RECORD = RolloutRecord(
    meta=Meta(name="m-2", generation=1, resource_version=1, created_at=AT),
    spec=RolloutSpec(model="m", version=2, strategy=RolloutStrategy(bake_s=300.0)),
    deployment="m",
    stable=1,
    canary=2,
    started_by="ada",
    since=AT,
    waves=WAVES,
)


def at(phase: Phase, **changes: object) -> RolloutRecord:
    return replace(RECORD, phase=phase, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (at(Phase.PENDING), "wave 1 (eu) begins"),
        (at(Phase.STAGING), "when version 2 is warm in wave 1 (eu), it gets 5 % of the traffic"),
        (at(Phase.PROGRESSING, step=1), "when every router knows of 25 %, that is watched for 5 m"),
        (at(Phase.BAKING), "5 % becomes 25 % if the analysis passes"),
        (at(Phase.BAKING, step=2), "wave 2 (us, ap) waits for an approval if"),
        (at(Phase.BAKING, wave=1, step=2), "version 2 becomes the stable one if"),
        (at(Phase.PAUSED, pause=Pause.MANUAL), "until somebody resumes it"),
        (at(Phase.PAUSED, pause=Pause.FREEZE), "when the freeze window is over"),
        (at(Phase.PAUSED, pause=Pause.INCONCLUSIVE), "the analysis could not"),
        (at(Phase.PAUSED, pause=Pause.GATE, resume_to=Phase.BAKING), "approves wave 2 (us, ap)"),
        (at(Phase.PAUSED, pause=Pause.GATE, resume_to=Phase.PENDING), "approves wave 1 (eu)"),
        (at(Phase.ROLLING_BACK), "version 1 gets all traffic, then version 2 goes"),
    ],
)
def test_what_comes_next_is_said(record: RolloutRecord, words: str) -> None:
    assert words in next_words(record)


def test_nothing_comes_next_when_it_is_over() -> None:
    for phase in (Phase.PROMOTED, Phase.ROLLED_BACK, Phase.FAILED):
        assert next_words(at(phase)) == ""


def test_without_an_analysis_time_decides() -> None:
    strategy = RolloutStrategy(bake_s=90.0, analysis=AnalysisSpec(enabled=False))
    record = at(Phase.BAKING, spec=replace(RECORD.spec, strategy=strategy))
    assert next_words(record) == "5 % becomes 25 % after 90 s, without an analysis"


def typed(record: RolloutRecord) -> list[str]:
    return [text for _, text in commands(record)]


def test_the_commands_fit_the_phase() -> None:
    assert typed(at(Phase.STAGING)) == ["fed rollout pause m-2", "fed rollout abort m-2"]
    assert "fed rollout promote m-2" in typed(at(Phase.BAKING))
    assert typed(at(Phase.PAUSED, pause=Pause.MANUAL))[0] == "fed rollout resume m-2"
    assert typed(at(Phase.PAUSED, pause=Pause.GATE))[0] == "fed rollout approve m-2"
    assert typed(at(Phase.PAUSED, pause=Pause.INCONCLUSIVE))[0] == "fed rollout promote m-2"
    assert typed(at(Phase.PAUSED, pause=Pause.FREEZE))[0] == "fed rollout promote m-2"
    assert typed(at(Phase.ROLLING_BACK)) == []
    assert typed(at(Phase.PROMOTED)) == ["fed rollout undo m --to 1"]
    assert typed(at(Phase.FAILED)) == ["fed rollout start m --to 2"]
