"""The flags by which a rollout's strategy is told, for `fed rollout start` and `fed deploy`.

Input: flags, and a strategy that they change. Output: the strategy as the flags say; what they do
not name stays. What contradicts itself is a usage error.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click

from federation.cli.options import DurationType
from federation.cli.rollout_words import (
    GatesType,
    RatioType,
    ShareType,
    StepsType,
    WavesType,
    gated,
)
from federation.contract.rollout import AnalysisSpec, OnInconclusive, RolloutStrategy, Wave
from federation.contract.rollout_rules import strategy_problems

_CHOICES = [each.value for each in OnInconclusive]


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyFlags:
    """What the flags say; None (or False) = nothing."""

    waves: tuple[Wave, ...] | None = None
    steps: tuple[float, ...] | None = None
    bake: float | None = None
    gate: tuple[int, ...] | None = None
    max_error_rate: float | None = None
    max_p95_ratio: float | None = None
    max_wrong_inputs: int | None = None
    min_requests: int | None = None
    max_bake: float | None = None
    on_inconclusive: str | None = None
    shadow: float | None = None
    judge_shadow: bool = False
    pool_small_regions: bool = False
    no_analysis: bool = False
    in_place: bool = False
    allow_signature_change: bool = False

    @property
    def given(self) -> bool:
        """Whether any flag says anything."""
        return self != StrategyFlags()


def strategy_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags, handed over as `strategy`, a StrategyFlags."""

    @functools.wraps(function)  # with the options that it has by now
    def gathered(*arguments: Any, **given: Any) -> Any:
        mine = {name: given.pop(name) for name in StrategyFlags.__dataclass_fields__}
        return function(*arguments, strategy=StrategyFlags(**mine), **given)

    for option in reversed(_OPTIONS):
        option(gathered)
    return gathered


_COUNT = click.IntRange(min=0)
_OPTIONS = (
    click.option(
        "--waves",
        type=WavesType(),
        help='Regions that move together: "eu-west; us-east,us-west; *". Also cluster/NAME and '
        'KEY=VALUE of labels; "*" is the rest.  [default: all at once]',
    ),
    click.option(
        "--steps",
        type=StepsType(),
        help="Percent of a wave's traffic, one step after the other.  [default: 5,25,100]",
    ),
    click.option(
        "--bake", type=DurationType(), help="How long each step lasts at least.  [default: 2m]"
    ),
    click.option("--gate", type=GatesType(), help="Waves that wait for `fed rollout approve`."),
    click.option(
        "--max-error-rate",
        type=ShareType(),
        help="Share of requests that may fail more than of the stable version's.  [default: 1%]",
    ),
    click.option(
        "--max-p95-ratio",
        type=RatioType(),
        help="How much slower the 95th percentile may be.  [default: 1.2]",
    ),
    click.option(
        "--max-wrong-inputs",
        type=_COUNT,
        help="How many of the package's golden inputs may be answered wrongly.  [default: 0]",
    ),
    click.option("--min-requests", type=_COUNT, help="Requests before a verdict.  [default: 100]"),
    click.option(
        "--max-bake",
        type=DurationType(),
        help="How long a step waits for a verdict.  [default: 20m]",
    ),
    click.option(
        "--on-inconclusive",
        type=click.Choice(_CHOICES),
        help="What to do without one.  [default: pause]",
    ),
    click.option(
        "--shadow",
        type=ShareType(),
        help="Of the new version's requests, how many are put to the old one, too, to compare the "
        "answers.  [default: 0%]",
    ),
    click.option(
        "--judge-shadow",
        is_flag=True,
        help="Answers that differ are faults, beyond 1 % more than the old version differs from "
        "itself. Needs --shadow.",
    ),
    click.option(
        "--pool-small-regions",
        is_flag=True,
        help="Regions of a wave with too few requests to pass alone may pass together.",
    ),
    click.option("--no-analysis", is_flag=True, help="Compare nothing: only time counts."),
    click.option(
        "--in-place",
        is_flag=True,
        help="Where both versions do not fit, the old one goes first; capacity is missing until "
        "the new one is warm.",
    ),
    click.option(
        "--allow-signature-change", is_flag=True, help="Inputs and outputs may be others."
    ),
)


def with_strategy(held: RolloutStrategy, flags: StrategyFlags) -> RolloutStrategy:
    """Return the strategy as the flags say; raises click.UsageError if it makes no sense."""
    analysis = _analysis(held.analysis, flags)
    waves = held.waves if flags.waves is None else flags.waves
    strategy = replace(
        held,
        waves=gated(waves, flags.gate) if flags.gate else waves,
        steps=held.steps if flags.steps is None else flags.steps,
        bake_s=held.bake_s if flags.bake is None else flags.bake,
        analysis=analysis,
        in_place=held.in_place or flags.in_place,
        allow_signature_change=held.allow_signature_change or flags.allow_signature_change,
    )
    if flags.max_bake is None and strategy.bake_s > analysis.max_bake_s:
        longest = replace(analysis, max_bake_s=2 * strategy.bake_s)
        strategy = replace(strategy, analysis=longest)
    if problem := next(strategy_problems(strategy), ""):
        raise click.UsageError(problem)
    return strategy


def _analysis(held: AnalysisSpec, flags: StrategyFlags) -> AnalysisSpec:
    said = {
        "max_error_rate": flags.max_error_rate,
        "max_p95_ratio": flags.max_p95_ratio,
        "max_wrong_inputs": flags.max_wrong_inputs,
        "min_requests": flags.min_requests,
        "max_bake_s": flags.max_bake,
        "shadow_percent": None if flags.shadow is None else round(100 * flags.shadow, 9),
        "judge_shadow": flags.judge_shadow or None,
        "pool_small_regions": flags.pool_small_regions or None,
        "on_inconclusive": flags.on_inconclusive and OnInconclusive(flags.on_inconclusive),
    }
    given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if given and flags.no_analysis:
        raise click.UsageError("--no-analysis compares nothing: leave out the limits.")
    # A limit that is given asks for an analysis, also where there was none.
    enabled = False if flags.no_analysis else (held.enabled or bool(given))
    return replace(held, enabled=enabled, **given)
