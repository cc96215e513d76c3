"""Limits follow from what the owner wrote."""

import pytest

from federation.contract.errors import Invalid
from federation.contract.rollout import AnalysisSpec
from federation.policy.analysis.limits import Limits, Metric, Shadow, limits_of


def test_what_the_owner_wrote_is_what_is_judged() -> None:
    spec = AnalysisSpec(
        max_error_rate=0.02, max_p95_ratio=1.5, max_wrong_inputs=3, min_requests=7, max_bake_s=60.0
    )
    limits = limits_of(spec)
    told = limits.max_error_rate, limits.max_p95_ratio, limits.max_wrong_inputs
    assert told == (0.02, 1.5, 3)
    assert (limits.min_requests, limits.max_bake_s) == (7, 60.0)
    assert limits_of(AnalysisSpec()) == Limits()


def test_a_short_bake_shortens_the_waits() -> None:
    limits = limits_of(AnalysisSpec(), bake_s=10.0)
    assert (limits.min_bake_s, limits.settle_s) == (25.0, 5.0)


@pytest.mark.parametrize(
    "spec",
    [
        AnalysisSpec(max_error_rate=0.0),
        AnalysisSpec(max_error_rate=1.0),
        AnalysisSpec(max_error_rate=float("nan")),
        AnalysisSpec(max_p95_ratio=0.9),
        AnalysisSpec(max_p95_ratio=float("nan")),
    ],
)
def test_limits_that_nothing_can_keep_are_refused(spec: AnalysisSpec) -> None:
    with pytest.raises(Invalid, match="cannot be judged"):
        limits_of(spec)


def test_what_is_asked_for_besides() -> None:
    spec = AnalysisSpec(shadow_percent=1.0, judge_shadow=True, pool_small_regions=True)
    limits = limits_of(spec, alone=True)
    assert (limits.shadow, limits.pool, limits.alone) == (Shadow.JUDGE, True, True)


def test_differing_answers_are_judged_only_if_asked() -> None:
    assert Metric.SHADOW not in Limits().metrics
    assert Metric.SHADOW in Limits(shadow=Shadow.JUDGE).metrics
