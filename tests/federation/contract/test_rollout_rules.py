import math
from dataclasses import replace

import pytest

from federation.contract.errors import Invalid
from federation.contract.rollout import AnalysisSpec, FreezeWindow, RolloutStrategy, Wave
from federation.contract.rollout_rules import (
    check_freeze,
    check_strategy,
    freeze_text,
    parse_freeze,
    strategy_problems,
)
from federation.contract.sync import Day

EU, US, REST = Wave(regions=("eu",)), Wave(regions=("us",)), Wave(regions=("*",))


def test_the_defaults_make_sense() -> None:
    assert check_strategy(RolloutStrategy()) == RolloutStrategy()
    assert list(strategy_problems(RolloutStrategy(waves=(EU, US, REST)))) == []
    labelled = Wave(cluster_labels={"tier": "gold"})
    assert list(strategy_problems(RolloutStrategy(waves=(labelled, REST), steps=(100,)))) == []


@pytest.mark.parametrize(
    ("waves", "words"),
    [
        ((Wave(),), "wave 1 names no region, cluster or label"),
        ((EU, EU), "region 'eu' is in wave 1 and in wave 2"),
        ((Wave(clusters=("a", "a")),), "cluster 'a' is in wave 1 and in wave 1"),
        ((REST, EU), '"*" is for the last wave, not for wave 1 of 2'),
        ((Wave(regions=("eu", "*")),), '"*" stands alone'),
        ((Wave(regions=("",)),), "a region without a name"),
        ((EU,) * 65, "at most 64 waves, not 65"),
        ((Wave(regions=tuple(map(str, range(1001)))),), "names more than 1000 regions"),
    ],
)
def test_waves_without_sense(waves: tuple[Wave, ...], words: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_strategy(RolloutStrategy(waves=waves))
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((), "steps must not be empty"),
        ((0.0, 100.0), "steps are percent above 0"),
        ((math.nan, 100.0), "steps are percent above 0"),
        ((50.0, 25.0, 100.0), "steps must rise, not 50,25,100"),
        ((5.0, 25.0), "the last step must be 100, not 25: write 5,25,100"),
        (tuple(range(1, 34)), "at most 32 steps, not 33"),
    ],
)
def test_steps_without_sense(steps: tuple[float, ...], words: str) -> None:
    assert words in next(strategy_problems(RolloutStrategy(steps=steps)))


@pytest.mark.parametrize(
    ("analysis", "words"),
    [
        (AnalysisSpec(max_error_rate=5.0), "a share, 0 to 1, not 5; 1 % is 0.01"),
        (AnalysisSpec(max_p95_ratio=0.2), "1.2 means at most 20 % slower"),
        (AnalysisSpec(max_p95_ratio=math.inf), "max_p95_ratio must be 1 to 1000"),
        (AnalysisSpec(min_requests=-1), "min_requests must be 0 to"),
        (AnalysisSpec(max_wrong_inputs=-1), "max_wrong_inputs must be 0 to"),
        (AnalysisSpec(shadow_percent=101.0), "shadow_percent must be 0 to 100"),
        (AnalysisSpec(judge_shadow=True), "judge_shadow needs answers to compare"),
        (AnalysisSpec(max_bake_s=60.0), "cannot be less than bake_s (120)"),
        (AnalysisSpec(max_bake_s=math.nan), "max_bake_s must be 0 to"),
    ],
)
def test_an_analysis_without_sense(analysis: AnalysisSpec, words: str) -> None:
    assert words in next(strategy_problems(RolloutStrategy(analysis=analysis)))


def test_without_an_analysis_nobody_waits_for_it() -> None:
    off = AnalysisSpec(enabled=False, max_bake_s=60.0)
    assert list(strategy_problems(RolloutStrategy(analysis=off))) == []
    assert "bake_s must be" in next(strategy_problems(RolloutStrategy(bake_s=-1.0)))


def test_freeze_windows_are_read_and_written() -> None:
    window = parse_freeze("fri-sun 16:00-08:00")
    assert window == FreezeWindow(start="16:00", end="08:00", days=(Day.FRI, Day.SAT, Day.SUN))
    assert parse_freeze(freeze_text(window)) == window
    for text in ("22:00-06:00 20", "at night", "25:00-06:00"):
        with pytest.raises(Invalid):
            parse_freeze(text)


def test_windows_and_zones_are_checked() -> None:
    window = FreezeWindow(start="16:00", end="08:00")
    check_freeze((window,), "Europe/Dublin")
    with pytest.raises(Invalid, match="is not a time zone"):
        check_freeze((window,), "../etc")
    with pytest.raises(Invalid, match="is a time like"):
        check_freeze((replace(window, start="4pm"),), "UTC")
