"""What docs/analysis.md promises, on a slice of the simulation: false aborts, power, false passes.

FED_TEST_DEPTH=83 makes it the 1,000 runs of the docs. Bounds are those of a binomial test at
99.9 %, so that chance alone does not fail it (and seeds are fixed).
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.analysis.tables import (
    L20,
    L1000,
    METRICS,
    ROLLOUTS,
    Bench,
    aborted,
    at_limit,
    judged,
    line_rule,
)
from benchmarks.analysis.vector import agreement, evidence
from benchmarks.analysis.world import TICK_S, World, draw
from benchmarks.analysis.worlds import CALM, WORLDS
from federation.policy.analysis.limits import Metric
from tests.depth import examples

RUNS = examples(12)
STATED_ALPHA, STATED_BETA, STATED_POWER = 0.05, 0.05, 0.95  # docs/analysis.md
SKEWED = ("20, 25 %, 200 sticky users", "steps 5, 25, 50 %, 2,000 users, bursts")
DEEPER = (
    "200, 5 %, one-sided noise 10 %",
    "20 rps, 1 %",
    "200, 5 %, common bursts",
    "200, 5 %, drift",
)


def _bench(seed: int) -> Bench:
    return Bench(RUNS, np.random.default_rng(seed))


def _most(share: float) -> float:
    """How many of the runs may be wrong where each is with this chance."""
    return RUNS * share + 3.1 * math.sqrt(RUNS * share * (1 - share)) + 1


def test_the_simulation_judges_as_the_product_does() -> None:
    world = World(rps=50, users=500, weight=0.1, bursts=0.05, noise=0.05, minutes=9, slower=1.3)
    runs = draw(world, 2, np.random.default_rng(1))
    assert agreement(runs, Metric.ERRORS, line_rule(world)) < 1e-9
    assert agreement(runs, Metric.P95) < 1e-9
    world = replace(world, weight=1.0, alone=True)
    runs = draw(world, 1, np.random.default_rng(1))
    assert agreement(runs, Metric.ERRORS, line_rule(world)) < 1e-9
    assert agreement(runs, Metric.P95) < 1e-9


@pytest.mark.parametrize("name", (*SKEWED, *DEEPER) if examples(2) > 2 else SKEWED)
def test_neither_equal_versions_nor_those_at_the_limit_are_aborted(name: str) -> None:
    world = World(**WORLDS[name])
    border, equal = _bench(2).draw(at_limit(world)), _bench(3).draw(world)
    for metric in METRICS:
        harm, safe = judged(border, metric, world)
        assert (harm > L20).any(1).sum() <= _most(STATED_ALPHA)
        assert (harm > L1000).any(1).sum() <= _most(0.001)
        assert (safe > L20).any(1).sum() <= _most(STATED_BETA)
        assert (judged(equal, metric, world)[0] > L20).any(1).sum() <= _most(0.005)


def test_whole_rollouts_at_all_their_limits_are_rarely_aborted() -> None:
    settings = ROLLOUTS["2,000 users, bursts, noise 10 %, drift"]
    assert aborted(_bench(7), settings, at_limit, regions=3).sum() <= _most(STATED_ALPHA)


@pytest.mark.parametrize(
    ("metric", "settings", "within_s"),
    [
        (Metric.P95, {"slower": 10.0}, 60),  # one canary request a second
        (Metric.P95, {"slower": 2.0}, 180),
        (Metric.ERRORS, {"canary_errors": 0.05}, 360),
        (Metric.P95, {"slower": 1.38, "rps": 200}, 900),  # ten a second
        (Metric.P95, {"slower": 2.0, **CALM}, 180),
        (Metric.ERRORS, {"canary_errors": 0.05, "rps": 200}, 60),
        (Metric.ERRORS, {"canary_errors": 0.05, **CALM}, 60),
        (Metric.ERRORS, {"canary_errors": 0.05, "rps": 200, "onset_min": 13.0}, 1200),
    ],
)
def test_faults_are_found(metric: Metric, settings: dict[str, Any], within_s: int) -> None:
    world = World(**settings)
    harm, _ = judged(_bench(4).draw(world), metric, world)
    missed = ~(harm[:, : int(within_s / TICK_S)] > L1000).any(1)
    assert missed.sum() <= _most(1 - STATED_POWER)


def test_a_good_version_passes_at_one_request_a_second() -> None:
    world = World()
    rule = line_rule(world, (1.25, 0.01 - 0.00125))
    good = evidence(_bench(5).draw(world), Metric.ERRORS, rule)[1]
    assert (~(good[:, :90] > L20).any(1)).sum() <= _most(0.1)
    border = evidence(_bench(6).draw(replace(world, line=(1.25, 0.00875))), Metric.ERRORS, rule)[1]
    assert (border > L20).any(1).sum() <= _most(0.05)
