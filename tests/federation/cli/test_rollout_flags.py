import click
import pytest

from federation.cli.rollout_flags import StrategyFlags, strategy_options, with_strategy
from federation.contract.rollout import AnalysisSpec, OnInconclusive, RolloutStrategy, Wave

HELD = RolloutStrategy(waves=(Wave(regions=("eu",)), Wave(regions=("*",))), bake_s=60.0)


def test_what_is_not_said_stays() -> None:
    assert with_strategy(HELD, StrategyFlags()) == HELD
    assert not StrategyFlags().given
    assert StrategyFlags(in_place=True).given


def test_what_is_said_is_taken() -> None:
    flags = StrategyFlags(
        steps=(10.0, 100.0),
        bake=30.0,
        gate=(2,),
        max_error_rate=0.02,
        max_p95_ratio=1.5,
        max_wrong_inputs=3,
        min_requests=7,
        max_bake=600.0,
        on_inconclusive="promote",
        shadow=0.07,
        judge_shadow=True,
        pool_small_regions=True,
        in_place=True,
        allow_signature_change=True,
    )
    made = with_strategy(HELD, flags)
    assert made.steps == (10.0, 100.0)
    assert [wave.approval for wave in made.waves] == [False, True]
    assert (made.bake_s, made.in_place, made.allow_signature_change) == (30.0, True, True)
    assert made.analysis == AnalysisSpec(
        max_error_rate=0.02,
        max_p95_ratio=1.5,
        max_wrong_inputs=3,
        min_requests=7,
        max_bake_s=600.0,
        on_inconclusive=OnInconclusive.PROMOTE,
        shadow_percent=7.0,
        judge_shadow=True,
        pool_small_regions=True,
    )


def test_a_long_bake_stretches_the_longest_one() -> None:
    assert with_strategy(HELD, StrategyFlags(bake=3600.0)).analysis.max_bake_s == 7200.0
    with pytest.raises(click.UsageError, match="cannot be less than bake_s"):
        with_strategy(HELD, StrategyFlags(bake=3600.0, max_bake=60.0))


def test_an_analysis_is_switched_off_and_on() -> None:
    off = with_strategy(HELD, StrategyFlags(no_analysis=True))
    assert not off.analysis.enabled
    assert with_strategy(off, StrategyFlags(max_error_rate=0.05)).analysis.enabled
    with pytest.raises(click.UsageError, match="leave out the limits"):
        with_strategy(HELD, StrategyFlags(no_analysis=True, min_requests=1))


def test_nonsense_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError, match="the last step must be 100"):
        with_strategy(HELD, StrategyFlags(steps=(5.0, 25.0)))


def test_the_flags_come_as_one_value() -> None:
    got: list[StrategyFlags] = []

    @click.command()
    @strategy_options
    def command(strategy: StrategyFlags) -> None:
        got.append(strategy)

    words = ["--waves", "eu; *", "--steps", "5,100", "--bake", "2m", "--no-analysis"]
    command.main(words, standalone_mode=False)
    waves = (Wave(regions=("eu",)), Wave(regions=("*",)))
    assert got == [StrategyFlags(waves=waves, steps=(5.0, 100.0), bake=120.0, no_analysis=True)]
