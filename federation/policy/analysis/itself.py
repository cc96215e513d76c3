"""Does the stable version differ from itself? One half of its clients against the other half.

Input: slow answers of the stable version by user bucket, report by report. Output: whether the
method by which a canary is judged would find one half too slow, measured by the other. There is one
version only, so such a finding says that latency here depends on who asks, more than the method can
believe, and that it must not be used to judge a canary. Both ways are asked; each 30 s are one
block, which is all that a half needs, since both are asked at the same time.

What differs in time and not among clients is not seen: both halves of a version suffer from it.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from federation.contract.rollout import USER_BUCKETS, SlowAbove
from federation.policy.analysis.evidence import BIN_S, Evidence
from federation.policy.analysis.histograms import Counts, quantile, share_slower
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.rules import LEAST, MOST, SLOWER, Reference, Rule

ALARM = math.log(1000.0)  # evidence for either way round: one in a thousand by chance


def own_rule(slow: SlowAbove, reference: Reference) -> Rule:
    """Return the rule by which a half is judged: as fast as the other, but for the limit's ratio.

    Routers count the stable version's answers by its own bound only, so the ratio is told as the
    factor by which the share of slow answers rises where all take that much longer.
    """
    usual = min(MOST, max(LEAST, share_slower(reference.latency, slow.stable_ms)))
    ratio = slow.canary_ms / slow.stable_ms
    at_limit = max(usual, share_slower(reference.latency, slow.stable_ms / ratio))
    worse = (share_slower(reference.latency, slow.stable_ms / factor) for factor in SLOWER)
    return Rule(
        metric=Metric.P95,
        slope=at_limit / usual,
        slack=0.0,
        usual=usual,
        harm=tuple(min(0.95, max(share, 1.05 * at_limit)) for share in worse),
    )


@dataclass(slots=True, kw_only=True)
class Itself:
    """Both halves of the stable version's clients. Times in seconds.

    `n`, `k` are answers and slow ones since `since`, which are no block yet. `alarmed` stays until
    the bounds of latency are renewed.
    """

    ways: tuple[Evidence, Evidence]
    since: float
    n: list[int] = field(default_factory=lambda: [0] * USER_BUCKETS)
    k: list[int] = field(default_factory=lambda: [0] * USER_BUCKETS)
    alarmed: bool = False

    @classmethod
    def begin(cls, slow: SlowAbove, reference: Reference, now: float) -> "Itself":
        """Return the comparison of which nothing is known yet."""
        rule, half = own_rule(slow, reference), USER_BUCKETS // 2
        ways = tuple(Evidence.begin(rule, now, buckets=half) for _ in range(2))
        return cls(ways=(ways[0], ways[1]), since=now)

    def start(self, now: float) -> None:
        """Let time begin, where nothing was counted yet."""
        self.since = now
        for way in self.ways:
            way.began = now

    def observe(self, now: float, n: Sequence[int], k: Sequence[int]) -> None:
        """Take in the stable version's answers and slow ones of one report."""
        self.n = list(map(operator.add, self.n, n))
        self.k = list(map(operator.add, self.k, k))
        if now - self.since < BIN_S:
            return
        one, other = ((self.n[i::2], self.k[i::2]) for i in range(2))
        self.ways[0].observe(now, one, other)
        self.ways[1].observe(now, other, one)
        self.n, self.k, self.since = [0] * USER_BUCKETS, [0] * USER_BUCKETS, now
        self.alarmed = self.alarmed or max(way.log_harm() for way in self.ways) >= ALARM

    def ratio(self, latency: Counts) -> float | None:
        """Return how many times the faster half's p95 the slower half's is, about; None = unknown.

        `latency` is the stable version's histogram: its shape tells by how much answers take longer
        where a share of them is slow.
        """
        one = self.ways[0]
        shares = sorted(g.bad / max(g.requests, 1) for g in (one.canary, one.stable))
        fast, slow = (quantile(latency, 1 - share) for share in shares)
        return fast / slow if fast and slow else None

    def copy(self) -> "Itself":
        """Return the same, to be changed on its own."""
        return Itself(
            ways=(self.ways[0].copy(), self.ways[1].copy()),
            since=self.since,
            n=list(self.n),
            k=list(self.k),
            alarmed=self.alarmed,
        )

    def to_json(self) -> list[Any]:
        """Return the state as JSON."""
        ways = [way.to_json() for way in self.ways]
        return [ways, self.since, list(self.n), list(self.k), self.alarmed]

    @classmethod
    def from_json(cls, state: Sequence[Any]) -> "Itself":
        """Return what `to_json` told of."""
        (one, other), since, n, k, alarmed = state
        ways = Evidence.from_json(one), Evidence.from_json(other)
        return cls(ways=ways, since=since, n=list(n), k=list(k), alarmed=alarmed)
