"""What is known of one metric in one region: all that must survive a restart.

Input: differences of counters, one report at a time. Output: the evidence that the canary is beyond
its limit, and the evidence that it is within, as logarithms; and the state as JSON and back, exact.

Every five minutes a fresh harm process begins with its own share of the level and its own belief
about noise, so that a fault that begins late is not drowned by the good minutes before it. Shares
add up to at most 1, so together they are one process.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from federation.policy.analysis.clumping import CV0, CV0_SLOW, Groups, in_time, prior
from federation.policy.analysis.evalue import log_e, log_mean, log_sum
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.rules import HARM_TIMES, LEAST, MOST, SAFE_AT, Rule

BIN_S = 30.0
RESTART_S = 300.0
MAX_BINS = 240
PSEUDO = 50  # requests' worth of what was usual before the rollout, in the guess of the stable

Column = Sequence[int]


@dataclass(slots=True)
class Evidence:
    """Counts and bets of one metric in one region. Times are seconds of any one clock.

    `starts` are when the harm processes began, `known` the clumping in time believed then, `harm`
    the sums of log e by process and guess, `safe` those of the safety process. `bins` are counts by
    `width_s` since `began`. `carried_harm`, `carried_safe` and `rank` stay from bounds of latency
    that were renewed: values of processes that ended, and how many they were.
    """

    rule: Rule
    began: float
    canary: Groups
    stable: Groups
    width_s: float = BIN_S
    starts: list[float] = field(default_factory=list)
    known: list[float] = field(default_factory=list)
    harm: list[list[float]] = field(default_factory=list)
    safe: list[float] = field(default_factory=lambda: [0.0] * len(SAFE_AT))
    bins: list[list[int]] = field(default_factory=list)
    carried_harm: float | None = None
    carried_safe: float = 0.0
    rank: int = 0

    @classmethod
    def begin(cls, rule: Rule, now: float, *, buckets: int) -> "Evidence":
        """Return the evidence of which nothing is known yet."""
        empty = [0] * buckets
        return cls(rule, now, Groups.of(empty, empty), Groups.of(empty, empty))

    def copy(self) -> "Evidence":
        """Return the same evidence, to be changed on its own."""
        return Evidence(
            rule=self.rule,
            began=self.began,
            canary=self.canary.copy(),
            stable=self.stable.copy(),
            width_s=self.width_s,
            starts=list(self.starts),
            known=list(self.known),
            harm=[list(row) for row in self.harm],
            safe=list(self.safe),
            bins=[list(row) for row in self.bins],
            carried_harm=self.carried_harm,
            carried_safe=self.carried_safe,
            rank=self.rank,
        )

    def observe(
        self, now: float, canary: tuple[Column, Column], stable: tuple[Column, Column]
    ) -> None:
        """Take in one report: requests and bad ones by user bucket, of both versions.

        Bets are made from the past only: a report never sees itself.
        """
        if self.rule.alone:
            stable = [0] * len(stable[0]), [0] * len(stable[1])  # a few that were diverted
        nc, kc, ns, ks = (sum(column) for column in (*canary, *stable))
        if not nc and not ns:
            return
        harm, safe, stable_share = self._guesses()
        line = (self.rule.slope, self.rule.slack)
        counts = (nc, kc, ns, ks)
        self._restart(now, len(harm))
        changes = [log_e(counts, (share, stable_share), line) for share in harm]
        for process in self.harm:
            for i, change in enumerate(changes):
                process[i] += change
        for i, share in enumerate(safe):
            self.safe[i] += log_e(counts, (share, stable_share), line)
        self.canary.add(*canary)
        self.stable.add(*stable)
        self._bin(now, counts)

    def _guesses(self) -> tuple[Sequence[float], Sequence[float], float]:
        rule, seen = self.rule, self.stable
        if rule.harm:
            return rule.harm, rule.safe, rule.usual
        share = (seen.bad + PSEUDO * rule.usual) / (seen.requests + PSEUDO)
        share = min(MOST, max(LEAST, share))
        limit = rule.limit(share)
        harm = [min(MOST, limit * times) for times in HARM_TIMES]
        return harm, [share + part * (limit - share) for part in SAFE_AT], share

    def _restart(self, now: float, guesses: int) -> None:
        """Begin a fresh harm process, at first every five minutes, later more rarely."""
        if self.starts and now - self.starts[-1] < max(RESTART_S, (now - self.began) / 4):
            return
        self.known.append(self.time_clumping() if self.starts else 1.0)
        self.starts.append(now)
        self.harm.append([0.0] * guesses)

    def _bin(self, now: float, counts: Sequence[int]) -> None:
        at = max(0, int((now - self.began) // self.width_s))
        while at >= MAX_BINS:
            self.width_s *= 2
            even = self.bins + [[0] * 4] * (len(self.bins) % 2)
            pairs = zip(even[::2], even[1::2], strict=True)
            self.bins = [[x + y for x, y in zip(a, b, strict=True)] for a, b in pairs]
            at = int((now - self.began) // self.width_s)
        while len(self.bins) <= at:
            self.bins.append([0, 0, 0, 0])
        row = self.bins[at]
        for i, more in enumerate(counts):
            row[i] += more

    def since(self, start: float) -> list[list[int]]:
        """Return the bins with requests since a harm process began."""
        first = max(0, int((start - self.began) // self.width_s)) if start > self.began else 0
        return [row for row in self.bins[first:] if row[0] or row[2]]

    def time_clumping(self) -> float:
        """Return how much bad requests of one version clump in time, from the beginning."""
        bins = self.since(self.began)
        share = (self.stable.bad + 0.5) / max(self.stable.requests, 1)
        if self.rule.alone:
            share = self.rule.usual
        bad = self.canary.requests * share / max(len(bins), 1)
        return in_time(bins, prior(bad, CV0_SLOW if self.rule.metric is Metric.P95 else CV0))

    def user_clumping(self) -> float:
        """Return how much bad requests clump in users."""
        return max(self.canary.clumping(), self.stable.clumping())

    def log_harms(self) -> list[float]:
        """Return the evidence of harm by process, each with its share of the level."""
        users = self.user_clumping()
        parts = []
        for k, (start, sums) in enumerate(zip(self.starts, self.harm, strict=True)):
            if k:
                time = in_time(self.since(start), self.known[k], least=self.known[k])
            else:
                time = self.time_clumping()
            phi = max(users, time)
            rank = self.rank + k
            parts.append(log_mean([x / phi for x in sums]) - math.log((rank + 1) * (rank + 2)))
        return parts

    def log_harm(self) -> float:
        """Return the logarithm of the evidence that the canary is beyond its limit."""
        ended = [] if self.carried_harm is None else [self.carried_harm]
        # What of the level was not given to a process yet counts as 1, like a process to come.
        rest = -math.log(self.rank + len(self.starts) + 1)
        return log_sum([*self.log_harms(), *ended, rest])

    def log_safe(self) -> float:
        """Return the logarithm of the evidence that the canary is within its limit."""
        phi = max(self.user_clumping(), self.time_clumping())
        return self.carried_safe + log_mean([x / phi for x in self.safe])

    def renewed(self, rule: Rule, now: float) -> "Evidence":
        """Return the evidence under a new rule: what was found stays, counting begins anew."""
        fresh = Evidence.begin(rule, now, buckets=len(self.canary.n))
        ended = self.log_harms() + ([] if self.carried_harm is None else [self.carried_harm])
        if ended:
            fresh.carried_harm = log_sum(ended)
        fresh.carried_safe = self.log_safe() if self.starts else self.carried_safe
        fresh.rank = self.rank + len(self.starts)
        return fresh

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON: about 350 numbers after 20 minutes."""
        rule = self.rule
        return {
            "rule": [rule.metric.value, rule.slope, rule.slack, rule.usual],
            "guesses": [list(rule.harm), list(rule.safe)],
            "began": self.began,
            "width": self.width_s,
            "starts": self.starts.copy(),
            "known": self.known.copy(),
            "harm": [row.copy() for row in self.harm],
            "safe": self.safe.copy(),
            "buckets": [list(c) for g in (self.canary, self.stable) for c in (g.n, g.k)],
            "bins": [x for row in self.bins for x in row],
            "carried": [self.carried_harm, self.carried_safe, self.rank],
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Evidence":
        """Return what `to_json` told of."""
        metric, slope, slack, usual = state["rule"]
        harm, safe = (tuple(guesses) for guesses in state["guesses"])
        nc, kc, ns, ks = state["buckets"]
        flat = state["bins"]
        carried_harm, carried_safe, rank = state["carried"]
        return cls(
            rule=Rule(
                metric=Metric(metric), slope=slope, slack=slack, usual=usual, harm=harm, safe=safe
            ),
            began=state["began"],
            canary=Groups.of(nc, kc),
            stable=Groups.of(ns, ks),
            width_s=state["width"],
            starts=list(state["starts"]),
            known=list(state["known"]),
            harm=[list(row) for row in state["harm"]],
            safe=list(state["safe"]),
            bins=[list(flat[i : i + 4]) for i in range(0, len(flat), 4)],
            carried_harm=carried_harm,
            carried_safe=carried_safe,
            rank=rank,
        )
