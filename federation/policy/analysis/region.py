"""One region under analysis: its evidence by metric, and what is needed to judge it.

Input: reports of routers, weights, ready replicas, results of golden inputs. Output: evidence for
`judging`, and the state as JSON and back. For a while after a change of weight only errors are
counted, since caches are cold then. What a canary with too much load per replica does says nothing
about its version: latency and refusals are not counted.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from federation.contract.rollout import USER_BUCKETS, GoldenResult, SlowAbove
from federation.policy.analysis.counting import (
    ZEROS,
    Block,
    Column,
    RouterReport,
    Tail,
    block_of,
    is_news,
)
from federation.policy.analysis.evidence import Evidence
from federation.policy.analysis.histograms import add
from federation.policy.analysis.itself import Itself
from federation.policy.analysis.limits import Limits, Metric
from federation.policy.analysis.rules import Reference, rule_of, slow_above, slow_rule

RECENT_BINS = 4
MIN_LOAD = 30  # canary requests from which its load can be told
MAX_SPANS = 4
OWN_PAIRS = 5  # pairs of the stable version with itself that make a block
_SHARES = 3  # columns of what the draw gave


def _no_shares() -> list[list[int]]:
    """Requests drawn for the canary, all that were drawn, and those of the first that the stable
    version answered."""
    return [[0] * USER_BUCKETS for _ in range(_SHARES)]


@dataclass(slots=True)
class Span:
    """Latencies of both versions since a harm process began, for the words of a verdict."""

    began: float
    stable: dict[int, int] = field(default_factory=dict)
    canary: dict[int, int] = field(default_factory=dict)

    def copy(self) -> "Span":
        """Return the same latencies, to be changed on their own."""
        return Span(self.began, dict(self.stable), dict(self.canary))


@dataclass(slots=True, kw_only=True)
class RegionState:
    """All that is known of a canary in one region. Times in seconds, `weight` in percent."""

    region: str
    limits: Limits
    began: float
    evidence: dict[Metric, Evidence]
    weight: float = 0.0
    weighed: float = 0.0  # when the weight was set
    slow: SlowAbove | None = None
    slow_since: float = 0.0
    own: Itself | None = None  # the stable version's latency against itself
    replicas: tuple[int, int] | None = None  # ready ones: stable, canary
    tails: dict[str, Tail] = field(default_factory=dict)  # by router
    spans: list[Span] = field(default_factory=list)
    shares: list[list[int]] = field(default_factory=_no_shares)
    shadow: list[int] = field(default_factory=lambda: [0] * 4)  # pairs, differing: canary, stable
    paired: list[int] = field(default_factory=lambda: [0] * 4)  # of those, what was judged
    golden: dict[str, GoldenResult] = field(default_factory=dict)  # by cluster
    harms: dict[Metric, float] = field(default_factory=dict, repr=False)  # since the last refresh
    safes: dict[Metric, float] = field(default_factory=dict, repr=False)
    stale: bool = field(default=True, repr=False)

    @classmethod
    def begin(cls, region: str, limits: Limits, now: float, reference: Reference) -> "RegionState":
        """Return a region that gets no traffic yet; fixes what its limits are compared with."""
        state = cls(region=region, limits=limits, began=now, evidence={})
        for metric in limits.metrics:
            if metric is not Metric.P95:
                rule = rule_of(metric, limits, reference)
                buckets = 1 if metric is Metric.SHADOW else USER_BUCKETS
                state.evidence[metric] = Evidence.begin(rule, now, buckets=buckets)
        state.bound(now, reference)
        return state

    def bound(self, now: float, reference: Reference) -> bool:
        """Set or renew the latency bounds; False if the stable version was asked too little.

        Renewing them keeps what was found and begins to count anew.
        """
        if (slow := slow_above(self.limits, reference)) is None:
            return False
        rule = slow_rule(slow, reference, alone=self.limits.alone)
        old = self.evidence.get(Metric.P95)
        if old is None:
            self.evidence[Metric.P95] = Evidence.begin(rule, now, buckets=USER_BUCKETS)
        else:
            self.evidence[Metric.P95] = old.renewed(rule, now)
        self.slow, self.slow_since, self.stale = slow, now, True
        self.own = Itself.begin(slow, reference, now)
        return True

    def weigh(self, percent: float, now: float) -> None:
        """Note that the canary's share of traffic was set."""
        if percent == self.weight:
            return
        if self.weight == 0 and not any(e.starts for e in self.evidence.values()):
            self.began = now
            for evidence in self.evidence.values():
                evidence.began = now
            if self.own is not None:
                self.own.start(now)
        self.weight, self.weighed = percent, now
        self.shares = _no_shares()

    @property
    def settled(self) -> float:
        """From when on latency and refusals count under the present weight."""
        return self.weighed + self.limits.settle_s

    def take(self, report: RouterReport, now: float) -> bool:
        """Take in what a router told; False if it was known already."""
        last = self.tails.get(report.router)
        if not is_news(last, report):
            return False
        block = block_of(last, report, now)
        self.tails[report.router] = Tail.after(last, report, now)
        if block is not None and self.weight > 0 and block.since >= self.weighed:
            self._observe(block)
        return True

    def _observe(self, block: Block) -> None:
        stable, canary, at = block.stable, block.canary, block.at
        n = (canary.requests, stable.requests)
        if not (any(n[0]) or any(n[1]) or canary.compared or stable.compared):
            return
        overloaded, self.stale = self.overload() is not None, True
        self._see(Metric.ERRORS, at, n, (canary.errors, stable.errors))
        if block.since < self.settled:
            return
        if not overloaded:
            self._see(Metric.REFUSED, at, n, (canary.refused, stable.refused))
            bounds = self.slow_since + 3 * self.limits.report_s  # until then routers learn of them
            if self.slow is not None and block.since >= bounds:
                served = (
                    _less(canary.requests, canary.refused),
                    _less(stable.requests, stable.refused),
                )
                self._see(Metric.P95, at, served, (canary.slow, stable.slow))
                if self.own is not None:
                    self.own.observe(at, served[1], tuple(map(min, stable.slow, served[1])))
        more = (canary.compared, canary.disagreed, stable.compared, stable.disagreed)
        self.shadow = [a + b for a, b in zip(self.shadow, more, strict=True)]
        self._see_pairs(at)
        self._see_draw(block)
        self._remember_latency(block)

    def _see_pairs(self, at: float) -> None:
        """Judge pairs of answers once enough of the stable version with itself are among them.

        Those are few, and without them the others say nothing.
        """
        new = [a - b for a, b in zip(self.shadow, self.paired, strict=True)]
        if new[2] >= OWN_PAIRS:
            self._see(Metric.SHADOW, at, ((new[0],), (new[2],)), ((new[1],), (new[3],)))
            self.paired = list(self.shadow)

    def _see_draw(self, block: Block) -> None:
        """Count whom the draw gave to the canary: also those it could not be had for then."""
        canary = _less(block.canary.requests, block.canary.undrawn)
        stable, diverted = _less(block.stable.requests, block.stable.undrawn), block.stable.diverted
        news = (map(operator.add, canary, diverted), map(operator.add, canary, stable), diverted)
        self.shares = [
            list(map(operator.add, old, new)) for old, new in zip(self.shares, news, strict=True)
        ]

    def _see(
        self, metric: Metric, at: float, n: tuple[Column, Column], bad: tuple[Column, Column]
    ) -> None:
        if (evidence := self.evidence.get(metric)) is not None:
            canary, stable = (
                k if k == ZEROS else tuple(map(min, k, m)) for k, m in zip(bad, n, strict=True)
            )
            evidence.observe(at, (n[0], canary), (n[1], stable))

    def _remember_latency(self, block: Block) -> None:
        evidence = self.evidence.get(Metric.P95)
        newest = evidence.starts[-1] if evidence and evidence.starts else self.began
        if not self.spans or newest > self.spans[-1].began:
            self.spans.append(Span(newest))
        if len(self.spans) > MAX_SPANS:
            first, second = self.spans[:2]
            add(first.stable, second.stable)
            add(first.canary, second.canary)
            del self.spans[1]
        add(self.spans[-1].stable, block.stable.latency)
        add(self.spans[-1].canary, block.canary.latency)

    def overload(self) -> float | None:
        """Return how many times the stable's load per replica the canary has, if that is too much.

        Of the last two minutes, and only as far as it can be told.
        """
        if (load := self.load()) is None or load <= self.limits.load_ratio:
            return None
        return load

    def load(self) -> float | None:
        """Return how many times the stable's load per ready replica the canary has."""
        if self.replicas is None or min(self.replicas) < 1:
            return None
        bins = self.evidence[Metric.ERRORS].bins[-RECENT_BINS:]
        canary, stable = sum(row[0] for row in bins), sum(row[2] for row in bins)
        if canary < MIN_LOAD or not stable:
            return None
        return (canary / self.replicas[1]) / (stable / self.replicas[0])

    def refresh(self) -> bool:
        """Compute the evidence anew where reports came; False if none did. About 0.3 ms."""
        if not self.stale:
            return False
        self.harms = {m: e.log_harm() for m, e in self.evidence.items()}
        if self.own is not None and self.own.alarmed:
            self.harms[Metric.P95] = 0.0  # latency is not judged: no evidence either way
        self.safes = {m: e.log_safe() for m, e in self.evidence.items()}
        self.stale = False
        return True

    def copy(self) -> "RegionState":
        """Return the same state, to be changed on its own; what is frozen is shared."""
        return RegionState(
            region=self.region,
            limits=self.limits,
            began=self.began,
            evidence={m: e.copy() for m, e in self.evidence.items()},
            weight=self.weight,
            weighed=self.weighed,
            slow=self.slow,
            slow_since=self.slow_since,
            own=self.own.copy() if self.own else None,
            replicas=self.replicas,
            tails=dict(self.tails),
            spans=[span.copy() for span in self.spans],
            shares=[list(row) for row in self.shares],
            shadow=list(self.shadow),
            paired=list(self.paired),
            golden=dict(self.golden),
            harms=dict(self.harms),
            safes=dict(self.safes),
            stale=self.stale,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON."""
        slow = self.slow
        return {
            "region": self.region,
            "began": self.began,
            "weight": [self.weight, self.weighed],
            "slow": [slow.stable_ms, slow.canary_ms] if slow else [],
            "slow_since": self.slow_since,
            "own": self.own.to_json() if self.own else None,
            "replicas": list(self.replicas or ()),
            "evidence": [e.to_json() for e in self.evidence.values()],
            "tails": [tail.to_json() for tail in self.tails.values()],
            "spans": [[s.began, _flat(s.stable), _flat(s.canary)] for s in self.spans],
            "shares": [list(row) for row in self.shares],
            "shadow": [*self.shadow, *self.paired],
            "golden": [[c, g.inputs, g.wrong, g.words] for c, g in self.golden.items()],
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any], limits: Limits) -> "RegionState":
        """Return what `to_json` told of."""
        evidence = [Evidence.from_json(e) for e in state["evidence"]]
        tails = [Tail.from_json(tail) for tail in state["tails"]]
        slow, replicas, own = state["slow"], state["replicas"], state.get("own")
        return cls(
            region=state["region"],
            limits=limits,
            began=state["began"],
            evidence={e.rule.metric: e for e in evidence},
            weight=state["weight"][0],
            weighed=state["weight"][1],
            slow=SlowAbove(stable_ms=slow[0], canary_ms=slow[1]) if slow else None,
            slow_since=state["slow_since"],
            own=Itself.from_json(own) if own else None,
            replicas=(replicas[0], replicas[1]) if replicas else None,
            tails={tail.report.router: tail for tail in tails},
            spans=[Span(began, _pairs(s), _pairs(c)) for began, s, c in state["spans"]],
            shares=[list(row) for row in (*state["shares"], *_no_shares())[:_SHARES]],
            shadow=list(state["shadow"][:4]),
            paired=list(state["shadow"][-4:]),
            golden={
                c: GoldenResult(inputs=n, wrong=wrong, words=words)
                for c, n, wrong, words in state["golden"]
            },
        )


def _less(a: Column, b: Column) -> Column:
    return a if b == ZEROS else tuple(max(x - y, 0) for x, y in zip(a, b, strict=True))


def _flat(counts: Mapping[int, int]) -> list[int]:
    return [x for pair in sorted(counts.items()) for x in pair]


def _pairs(flat: list[int]) -> dict[int, int]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
