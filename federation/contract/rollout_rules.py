"""What makes sense in a rollout's strategy and a region's freeze windows.

Input: specs that somebody wrote. Output: the first thing that is wrong with one, in a sentence.
Whether regions and clusters exist is asked by the control plane, which knows them.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from federation.contract.errors import Invalid
from federation.contract.rollout import (
    AnalysisSpec,
    FreezeWindow,
    RolloutStrategy,
    Wave,
)
from federation.contract.sync import SyncSpec, SyncWindow
from federation.contract.sync_rules import check_sync, parse_window, window_text

EVERYWHERE = "*"
MAX_WAVES = 64
MAX_STEPS = 32
MAX_NAMED = 1_000  # regions or clusters of one wave
MAX_BAKE_S = 7 * 86_400.0
MAX_REQUESTS = 1_000_000_000
MAX_RATIO = 1_000.0


def check_strategy(strategy: RolloutStrategy) -> RolloutStrategy:
    """Return the strategy if it makes sense; raises Invalid with the first thing that does not."""
    if problem := next(strategy_problems(strategy), ""):
        raise Invalid(problem)
    return strategy


def strategy_problems(strategy: RolloutStrategy) -> Iterator[str]:
    """Yield what is wrong with a strategy, in sentences."""
    yield from _wave_problems(strategy.waves)
    yield from _step_problems(strategy.steps)
    if not _within(strategy.bake_s, 0, MAX_BAKE_S):
        yield f"rollout: bake_s must be 0 to {MAX_BAKE_S:.0f} seconds, not {strategy.bake_s:g}."
    yield from _analysis_problems(strategy.analysis, strategy.bake_s)


def _wave_problems(waves: Sequence[Wave]) -> Iterator[str]:
    if len(waves) > MAX_WAVES:
        yield f"rollout: at most {MAX_WAVES} waves, not {len(waves)}."
    for number, wave in enumerate(waves, start=1):
        if not (wave.regions or wave.clusters or wave.cluster_labels):
            yield f'rollout: wave {number} names no region, cluster or label; "*" means the rest.'
        if max(len(wave.regions), len(wave.clusters)) > MAX_NAMED:
            yield f"rollout: wave {number} names more than {MAX_NAMED} regions or clusters."
        if EVERYWHERE in wave.regions and number < len(waves):
            yield f'rollout: "*" is for the last wave, not for wave {number} of {len(waves)}.'
        others = len(wave.regions) > 1 or wave.clusters or wave.cluster_labels
        if EVERYWHERE in wave.regions and others:
            yield f'rollout: wave {number}: "*" stands alone: it is all that no other wave names.'
    yield from _doubles("region", [wave.regions for wave in waves])
    yield from _doubles("cluster", [wave.clusters for wave in waves])


def _doubles(kind: str, names: Sequence[Sequence[str]]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for number, wave in enumerate(names, start=1):
        for name in wave:
            if not name:
                yield f"rollout: wave {number} has a {kind} without a name."
            elif name in seen:
                yield f"rollout: {kind} {name!r} is in wave {seen[name]} and in wave {number}."
            seen[name] = number


def _step_problems(steps: Sequence[float]) -> Iterator[str]:
    if not steps:
        yield "rollout: steps must not be empty; the last one is 100."
        return
    if len(steps) > MAX_STEPS:
        yield f"rollout: at most {MAX_STEPS} steps, not {len(steps)}."
    if not all(math.isfinite(step) and 0 < step <= 100 for step in steps):
        yield f"rollout: steps are percent above 0, at most 100, not {_list(steps)}."
    elif any(later <= step for step, later in pairwise(steps)):
        yield f"rollout: steps must rise, not {_list(steps)}."
    elif steps[-1] != 100:
        yield f"rollout: the last step must be 100, not {steps[-1]:g}: write {_list(steps)},100."


def _analysis_problems(analysis: AnalysisSpec, bake_s: float) -> Iterator[str]:
    share, ratio = analysis.max_error_rate, analysis.max_p95_ratio
    if not _within(share, 0, 1):
        yield f"analysis: max_error_rate is a share, 0 to 1, not {share:g}; 1 % is 0.01."
    if not _within(ratio, 1, MAX_RATIO):
        yield (
            f"analysis: max_p95_ratio must be 1 to {MAX_RATIO:g}, not {ratio:g}; "
            "1.2 means at most 20 % slower."
        )
    for name in ("max_wrong_inputs", "min_requests"):
        count = getattr(analysis, name)
        if not 0 <= count <= MAX_REQUESTS:
            yield f"analysis: {name} must be 0 to {MAX_REQUESTS}, not {count}."
    if not _within(analysis.shadow_percent, 0, 100):
        yield f"analysis: shadow_percent must be 0 to 100, not {analysis.shadow_percent:g}."
    elif analysis.judge_shadow and not analysis.shadow_percent:
        yield "analysis: judge_shadow needs answers to compare: set shadow_percent, 1 for 1 %."
    longest = analysis.max_bake_s
    if not _within(longest, 0, MAX_BAKE_S):
        yield f"analysis: max_bake_s must be 0 to {MAX_BAKE_S:.0f} seconds, not {longest:g}."
    elif analysis.enabled and longest < bake_s:
        yield (
            f"analysis: max_bake_s ({longest:g}) is how long to wait for a verdict: it cannot be "
            f"less than bake_s ({bake_s:g})."
        )


def _within(value: float, least: float, most: float) -> bool:
    return math.isfinite(value) and least <= value <= most


def _list(steps: Sequence[float]) -> str:
    return ",".join(f"{step:g}" for step in steps)


# ------------------------------------------------------------ freeze windows


def check_freeze(windows: Sequence[FreezeWindow], time_zone: str) -> None:
    """Raise Invalid unless a region's windows and its zone make sense, whatever zones this machine
    knows."""
    check_sync(SyncSpec(windows=tuple(map(_as_sync, windows)), time_zone=time_zone))


def parse_freeze(text: str) -> FreezeWindow:
    """Read "fri 16:00-00:00" or "22:00-06:00"; raises Invalid."""
    window = parse_window(text)
    if window.max_mbytes_per_second:
        raise Invalid(
            f"{text[:64]!r} has a number behind its times.",
            hint='Write a freeze window like "fri 16:00-00:00" or "sat,sun 00:00-00:00".',
        )
    return FreezeWindow(start=window.start, end=window.end, days=window.days)


def freeze_text(window: FreezeWindow) -> str:
    """Return a window as `parse_freeze` reads it."""
    return window_text(_as_sync(window))


def _as_sync(window: FreezeWindow) -> SyncWindow:
    return SyncWindow(start=window.start, end=window.end, days=window.days)
