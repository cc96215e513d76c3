"""How many requests count as one: the design effect of users and of time.

Input: sums over user buckets, and counts by bin of time. Output: factors of at least 1 by which the
evidence is divided. If bad answers clump (a few users with long inputs, half a minute of noise on
one node), the variance of the evidence is so many times what independent requests would give, and
its drift is not. This is the part of the method that is an approximation; it was tried, not proven.

Bins compare shares within the bin, so what hits both versions at once does not count as clumping,
and neither does the canary's own effect, which is fitted.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

# Until known better, a version alone may wobble for a bin by so much of its bad share. For slow
# answers 0.7 is a wobble of latency of about 10 %, which is also the most that keeps the promises.
CV0, CV0_SLOW = 0.5, 0.7
PRIOR_BINS = 8.0  # what that belief weighs

Bin = Sequence[float]  # canary requests, bad ones, stable requests, bad ones


@dataclass(slots=True)
class Groups:
    """Requests and bad ones of a version by user bucket, and their sums."""

    n: list[int]
    k: list[int]
    requests: int = 0
    bad: int = 0

    @classmethod
    def of(cls, n: Sequence[int], k: Sequence[int]) -> "Groups":
        """Return the groups with these counts."""
        return cls(list(n), list(k), sum(n), sum(k))

    def copy(self) -> "Groups":
        """Return the same counts, to be changed on their own."""
        return Groups(list(self.n), list(self.k), self.requests, self.bad)

    def add(self, n: Sequence[int], k: Sequence[int]) -> None:
        """Count more requests and bad ones; both as long as there are buckets."""
        self.n = list(map(operator.add, self.n, n))
        self.requests += sum(n)
        if bad := sum(k):
            self.k = list(map(operator.add, self.k, k))
            self.bad += bad

    def clumping(self) -> float:
        """Return how much bad requests clump in users; at least 1."""
        used = len(self.n) - self.n.count(0)
        if used < 2 or not 0 < self.bad < self.requests:
            return 1.0
        p = self.bad / self.requests
        off = [k - p * n for n, k in zip(self.n, self.k, strict=True)]
        spread = sum([x * x for x in off]) * used / (used - 1)
        return max(1.0, spread / max(self.requests * p * (1 - p), 1.0))

    def effective(self) -> float:
        """Return among how many equally busy buckets the requests might be spread."""
        return self.requests * self.requests / max(sum([n * n for n in self.n]), 1)


def _measured(bins: Sequence[Bin]) -> float:
    """Return how much bad requests of one version clump in time; 0 = cannot be told."""
    nc = kc = ns = ks = 0.0
    for a, b, c, d in bins:
        nc, kc, ns, ks = nc + a, kc + b, ns + c, ks + d
    if len(bins) < 2 or not nc:
        return 0.0
    if not ns:
        return _alone(bins, kc / nc)
    odds = ((kc + 0.5) / nc) / ((ks + 0.5) / ns)
    square = variance = 0.0
    for a, b, c, d in bins:
        share = odds * a / (odds * a + c)
        both = b + d
        off = b - both * share
        square += off * off
        variance += both * share * (1 - share)
    return square * len(bins) / (len(bins) - 1) / max(variance, 1.0)


def _alone(bins: Sequence[Bin], share: float) -> float:
    """Return the same of a version with nothing beside it: what hits all of the region counts."""
    square = sum([(b - a * share) ** 2 for a, b, _, _ in bins])
    variance = sum([a for a, _, _, _ in bins]) * share * (1 - share)
    return square * len(bins) / (len(bins) - 1) / max(variance, 1.0)


def _fours(bins: Sequence[Bin]) -> list[Bin]:
    rows: list[Bin] = []
    for i in range(0, len(bins) // 4 * 4, 4):
        a, b, c, d = bins[i : i + 4]
        rows.append([w + x + y + z for w, x, y, z in zip(a, b, c, d, strict=True)])
    return rows


def prior(bad: float, cv0: float) -> float:
    """Return what is believed of clumping in time before it can be measured, where a bin has `bad`
    bad requests of the canary if it is as good as the stable version."""
    return 1 + 2 * cv0 * cv0 * bad


def in_time(bins: Sequence[Bin], believed: float, *, least: float = 0.0) -> float:
    """Return how much bad requests of one version clump in time.

    `bins` without requests are left out by the caller. `least`: a young process may not believe in
    less noise than its elders measured.
    """
    if len(bins) < 2:
        return believed
    measured = _measured(bins)
    if len(bins) >= 16:
        measured = max(measured, _measured(_fours(bins)))
    return max(least, (PRIOR_BINS * believed + len(bins) * measured) / (PRIOR_BINS + len(bins)))
