"""What is said of a metric of a region: point values, limits, counts.

Input: a RegionState. Output: sentences such as "p95 +38 % in us-east (212 ms against 154 ms), limit
+20 %, 412 against 8,113 requests". Of a fault that began late only what came since is told: the
minutes before would hide it.
"""

import math
from dataclasses import dataclass

from federation.policy.analysis.evidence import Evidence
from federation.policy.analysis.histograms import merged, quantile
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.region import RegionState
from federation.policy.analysis.words import NAMES, change, limit, millis, percent, span


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Point values of a metric. `canary_ms` and `stable_ms` are percentiles; None = not known.

    `alone`: those of the stable version are of the hour before.
    """

    canary: float
    stable: float
    allowed: float
    canary_requests: int
    stable_requests: int
    canary_ms: float | None = None
    stable_ms: float | None = None
    alone: bool = False

    def counts(self, what: str = "requests") -> str:
        """Return how much it was: "412 against 8,113 requests"."""
        if self.alone:
            return f"{self.canary_requests:,} {what} against the stable version's last hour"
        return f"{self.canary_requests:,} against {self.stable_requests:,} {what}"

    @property
    def ratio(self) -> float | None:
        """How many times the stable's percentile the canary's is."""
        return self.canary_ms / self.stable_ms if self.canary_ms and self.stable_ms else None


def seen(region: RegionState, metric: Metric, since: float | None = None) -> Seen:
    """Return the point values of a metric since a time, or of all that was counted."""
    evidence = region.evidence[metric]
    start = evidence.began if since is None else since
    nc, kc, ns, ks = (sum(column) for column in zip([0] * 4, *evidence.since(start), strict=True))
    alone = evidence.rule.alone
    stable = evidence.rule.usual if alone else ks / max(ns, 1)
    canary_ms = stable_ms = None
    if metric is Metric.P95:
        spans = [s for s in region.spans if s.began >= start] or region.spans[-1:]
        canary_ms = quantile(merged(*(s.canary for s in spans)), 0.95)
        stable_ms = quantile(merged(*(s.stable for s in spans)), 0.95)
        if alone and region.slow is not None:
            stable_ms = region.slow.stable_ms
    return Seen(
        canary=kc / max(nc, 1),
        stable=stable,
        allowed=evidence.rule.limit(stable),
        canary_requests=nc,
        stable_requests=ns,
        canary_ms=canary_ms,
        stable_ms=stable_ms,
        alone=alone,
    )


def beyond(region: RegionState, metric: Metric) -> bool:
    """Do the point values break the limit?"""
    values = seen(region, metric)
    return values.canary > values.allowed and values.canary > 0


def worst_start(evidence: Evidence) -> float | None:
    """Return when the harm process with the most evidence began; None = with the region."""
    parts = evidence.log_harms()
    best = max(range(len(parts)), key=parts.__getitem__, default=0)
    return evidence.starts[best] if best else None


def accusation(region: RegionState, metric: Metric, now: float) -> str:
    """Return what a metric is found to be, without the outcome."""
    since = worst_start(region.evidence[metric])
    told = _told(region, metric, seen(region, metric, since))
    return told if since is None else f"{told}, in the last {span(now - since)}"


def _told(region: RegionState, metric: Metric, s: Seen) -> str:
    counts = s.counts("pairs" if metric is Metric.SHADOW else "requests")
    where = f"in {region.region}"
    if metric is Metric.P95:
        bound = change(region.limits.max_p95_ratio)
        if s.ratio is not None and s.ratio > region.limits.max_p95_ratio:
            both = f"({millis(s.canary_ms or 0)} against {millis(s.stable_ms or 0)})"
            return f"p95 {change(s.ratio)} {where} {both}, limit {bound}, {counts}"
        shares = f"{percent(s.canary)} against {percent(s.stable)}"
        return f"slow answers {shares} {where}, limit p95 {bound}, {counts}"
    shares = f"{percent(s.canary)} against {percent(s.stable)}"
    return f"{NAMES[metric]} {shares} {where}, limit {percent(s.allowed)}, {counts}"


def doubt(region: RegionState, metric: Metric) -> str:
    """Return what is not sure: "p95 +9 % in us-east, not yet sure that it is below +20 %"."""
    s = seen(region, metric)
    if metric is Metric.SHADOW and not s.canary_requests:
        return f"no answers were compared in {region.region} yet (small ones by HTTP, no streams)"
    if metric is Metric.P95:
        bound = change(region.limits.max_p95_ratio)
        value = f"p95 {change(s.ratio)}" if s.ratio is not None else "p95"
    else:
        bound = limit(s.allowed)
        value = f"{NAMES[metric]} {percent(s.canary)}"
    return f"{value} in {region.region}, not yet sure that it is below {bound}"


def praise(region: RegionState) -> str:
    """Return what keeps the limits: "errors 0.10 % against 0.11 % (limit 1 %), p95 −2 %"."""
    parts = []
    for metric in region.limits.metrics:
        s = seen(region, metric)
        if metric is Metric.P95:
            value = f"p95 {change(s.ratio)}" if s.ratio is not None else "p95"
            parts.append(f"{value} (limit {change(region.limits.max_p95_ratio)})")
        elif metric is not Metric.REFUSED or s.canary:
            shares = f"{percent(s.canary)} against {percent(s.stable)}"
            parts.append(f"{NAMES[metric]} {shares} (limit {limit(s.allowed)})")
    s = seen(region, Metric.ERRORS)
    parts.append(s.counts())
    if region.shadow[0] and Metric.SHADOW not in region.limits.metrics:
        parts.append(f"{region.shadow[1]:,} of {region.shadow[0]:,} answers unlike the stable's")
    return ", ".join(parts)


def concentration(evidence: Evidence) -> tuple[int, float]:
    """Return how few clients make most (80 %) of the canary's requests, and their share."""
    total, part, clients = max(evidence.canary.requests, 1), 0, 0
    for n in sorted(evidence.canary.n, reverse=True):
        part, clients = part + n, clients + 1
        if part >= 0.8 * total:
            break
    return clients, part / total


def remaining(elapsed_s: float, log_safe: float, beta: float) -> float | None:
    """Return about how long it takes until it is sure; None if nobody can tell."""
    if log_safe <= 0.05:
        return None
    return max(0.0, elapsed_s * (math.log(1 / beta) - log_safe) / log_safe)
