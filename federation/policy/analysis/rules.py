"""Every metric is one question: are bad requests more frequent than slope * stable's share + slack?

Input: limits, and what was usual for the stable version in a region before the rollout. Output: a
Rule for each metric, and the latency bounds by which routers count slow answers.

Latency becomes such a question by two bounds: an answer of the stable version is slow above its
usual p95, one of the canary above p95 * ratio. If the canary's slow share is no larger, its p95 is
at most `ratio` times the stable's. Both sides are counted at the same time, so that a slow hour
moves both; and a percentile that lies in a gap between fast and slow answers does no harm.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from federation.contract.rollout import SlowAbove
from federation.policy.analysis.histograms import quantile, share_slower
from federation.policy.analysis.limits import Limits, Metric

HARM_TIMES = (1.5, 3.0, 10.0, 50.0)  # times the limit: faults worth seeing
SAFE_AT = (0.0, 0.5)  # as good as the stable; halfway to the limit
SLOWER = (1.4, 1.7, 2.5, 8.0)  # faults worth seeing, as factors of latency
MOST = 0.9  # no guess is beyond
LEAST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What was usual for the stable version in a region: counts of about the last hour."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    latency: Mapping[int, int] = field(default_factory=dict)  # see `histograms`


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Harmless: the canary's share of bad requests <= slope * the stable's + slack; a slope of 0
    asks nothing of the stable version.

    `usual` is the stable's share before the rollout. `harm` and `safe` are guesses of the canary's
    share under faults and without; empty = they follow from what the stable does meanwhile.
    """

    metric: Metric
    slope: float
    slack: float
    usual: float
    harm: tuple[float, ...] = ()
    safe: tuple[float, ...] = ()

    @property
    def alone(self) -> bool:
        """Is the canary compared with what was usual before, since no stable version serves?"""
        return self.slope == 0

    def limit(self, stable: float) -> float:
        """Return the share that the canary may have where the stable has `stable`."""
        return self.slope * stable + self.slack


def _share(bad: int, requests: int) -> float:
    return min(bad, requests) / requests if requests else 0.0


def rule_of(metric: Metric, limits: Limits, reference: Reference) -> Rule:
    """Return the rule of a metric that needs no percentiles."""
    if metric is Metric.ERRORS:
        usual = _share(reference.errors, reference.requests)
        slack = max(limits.error_slack, limits.max_error_rate - limits.error_slope * usual)
        return _fixed(metric, limits, limits.error_slope, slack, usual)
    if metric is Metric.REFUSED:
        usual = _share(reference.refused, reference.requests)
        slack = max(limits.refused_slack, limits.max_error_rate - limits.refused_slope * usual)
        return _fixed(metric, limits, limits.refused_slope, slack, usual)
    return Rule(metric=metric, slope=1.0, slack=limits.shadow_slack, usual=0.0001)


def _fixed(metric: Metric, limits: Limits, slope: float, slack: float, usual: float) -> Rule:
    """Return a line; without a stable version beside it, its height at the usual share."""
    if limits.alone:
        slope, slack = 0.0, slope * usual + slack
    return Rule(metric=metric, slope=slope, slack=slack, usual=usual)


def slow_above(limits: Limits, reference: Reference) -> SlowAbove | None:
    """Return above which latencies answers are slow; None if the stable was asked too little."""
    if sum(reference.latency.values()) < limits.min_reference:
        return None
    if not (stable := quantile(reference.latency, 0.95)):
        return None
    return SlowAbove(stable_ms=stable, canary_ms=stable * limits.max_p95_ratio)


def slow_rule(slow: SlowAbove, reference: Reference, *, alone: bool = False) -> Rule:
    """Return the rule for slow answers; its guesses come from the stable's own histogram.

    `alone`: the canary's slow share must be what was usual for the stable version, as far as that
    is known (two standard errors).
    """
    usual = min(MOST, max(LEAST, share_slower(reference.latency, slow.stable_ms)))
    answers = max(1, sum(reference.latency.values()))
    allowed = usual + 2 * math.sqrt(usual * (1 - usual) / answers) if alone else usual
    ratio = slow.canary_ms / slow.stable_ms

    def at(factor: float) -> float:
        return share_slower(reference.latency, slow.canary_ms / factor)

    return Rule(
        metric=Metric.P95,
        slope=0.0 if alone else 1.0,
        slack=allowed if alone else 0.0,
        usual=usual,
        harm=tuple(min(0.95, max(at(f), 1.05 * allowed)) for f in SLOWER),
        safe=tuple(max(1e-4, min(at(f), 0.95 * usual)) for f in (1.0, 0.4 * ratio + 0.6)),
    )
