"""The analysis of one rollout: all its regions together.

Input: what happens to the rollout (regions opened, weights set, reports, golden results, ready
replicas). Output: Verdicts, for the rollout and by region; the state as JSON and back.

The rollout is aborted when the mean of the evidence of all its (region, metric) processes reaches
1/alpha. Their number is fixed when the rollout starts: regions to come count as 1, regions that are
done keep their last value. A mean of such processes is one again, however they depend on each
other, so nothing has to be corrected for the number of regions and metrics.

Counters of routers are cumulative and their last values are kept with the evidence, so the state
may be saved whenever one likes, as long as it is saved whole: what came after it is counted, once,
with the next report. An Analysis changes in place; its `copy` shares only what is frozen.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from federation.contract.rollout import GoldenResult, SlowAbove
from federation.policy.analysis.counting import RouterReport
from federation.policy.analysis.judging import (
    fail,
    judge_golden,
    judge_pass,
    judge_step,
    judge_together,
)
from federation.policy.analysis.limits import Limits, Metric, Shadow
from federation.policy.analysis.phrasing import accusation
from federation.policy.analysis.region import RegionState
from federation.policy.analysis.rules import Reference
from federation.policy.analysis.verdict import Outcome, Reason, Verdict
from federation.policy.analysis.words import span

_MOST = 700.0  # exp() beyond it overflows
UNKNOWN = Reference()
_SMALL = frozenset({Reason.FEW_REQUESTS, Reason.FEW_CLIENTS, Reason.UNSURE})


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process of a closed region ended at, and what was to be said of it."""

    region: str
    metric: Metric
    log_harm: float
    words: str


@dataclass(slots=True, kw_only=True)
class Analysis:
    """`planned` is the number of (region, metric) processes, `ended` what closed ones ended at."""

    limits: Limits
    planned: int
    regions: dict[str, RegionState] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)

    @classmethod
    def begin(cls, limits: Limits, regions: int) -> "Analysis":
        """Return the analysis of a rollout that will open `regions` regions in all its waves."""
        return cls(limits=limits, planned=max(1, regions) * len(limits.metrics))

    def open(self, region: str, now: float, reference: Reference = UNKNOWN) -> SlowAbove | None:
        """Begin with a region, before it gets traffic; returns its latency bounds for the routers.

        None: the stable version was asked too little; try `bound` later. A region that is open
        already is closed first.
        """
        self.close(region, now)
        state = RegionState.begin(region, self.limits, now, reference)
        self.regions[region] = state
        return state.slow

    def bound(self, region: str, now: float, reference: Reference) -> SlowAbove | None:
        """Set or renew a region's latency bounds, once more is known of its stable version."""
        state = self.regions[region]
        return state.slow if state.bound(now, reference) else None

    def weigh(self, region: str, percent: float, now: float) -> None:
        """Note that the canary's share in a region was set, in percent."""
        self.regions[region].weigh(percent, now)

    def ready(self, region: str, *, stable: int, canary: int) -> None:
        """Note how many replicas of both versions are ready in a region."""
        self.regions[region].replicas = (stable, canary)

    def golden(self, region: str, cluster: str, result: GoldenResult) -> None:
        """Note how the canary answered the golden inputs at a cluster; the newest counts."""
        self.regions[region].golden[cluster] = result

    def take(self, region: str, report: RouterReport, now: float) -> bool:
        """Take in what a router told of a region; False if it was known or the region is closed."""
        state = self.regions.get(region)
        return state is not None and state.take(report, now)

    def close(self, region: str, now: float) -> None:
        """End with a region; what was found counts on for the rollout as a whole."""
        if (state := self.regions.pop(region, None)) is None:
            return
        state.refresh()
        for metric, log_harm in state.harms.items():
            words = accusation(state, metric, now) if log_harm > 0 else ""
            self.ended.append(Ended(region, metric, log_harm, words))

    def evidence(self) -> float:
        """Return the mean evidence of harm of all planned processes; 1 = none either way."""
        logs = [x for state in self.regions.values() for x in state.harms.values()]
        logs += [ended.log_harm for ended in self.ended]
        planned = max(self.planned, len(logs))
        return (sum(math.exp(min(x, _MOST)) for x in logs) + planned - len(logs)) / planned

    def judge(self, now: float) -> Verdict:
        """Return whether the rollout must be aborted; otherwise it is inconclusive.

        Computes only regions anew that got reports since.
        """
        for state in self.regions.values():
            if (wrong := judge_golden(state)) is not None:
                return wrong
        for state in self.regions.values():
            state.refresh()
        return self.judged(now)

    def judged(self, now: float) -> Verdict:
        """Return the same from what was computed last: microseconds."""
        evidence = self.evidence()
        if evidence >= 1 / self.limits.alpha:
            return self._failed(now)
        return Verdict(
            outcome=Outcome.INCONCLUSIVE,
            reason=Reason.UNSURE,
            words="inconclusive: no limit is known to be broken",
            details={"evidence": evidence},
        )

    def _failed(self, now: float) -> Verdict:
        """Return the failure in the words of the process with the most evidence."""
        found = [(x, r, m) for r, state in self.regions.items() for m, x in state.harms.items()]
        ended = max(self.ended, key=lambda e: e.log_harm, default=None)
        if ended is None or (found and max(found)[0] >= ended.log_harm):
            _, region, metric = max(found)
            return fail(self.regions[region], metric, now)
        return Verdict(
            outcome=Outcome.FAILED,
            reason=Reason.HARM,
            words=f"fail: {ended.words}",
            region=ended.region,
            metric=ended.metric,
            details={f"{ended.metric}.log_harm": ended.log_harm},
        )

    def judge_region(self, region: str, now: float, *, expected: Mapping[str, float]) -> Verdict:
        """Return whether a region passes, or the failure of the rollout.

        `expected`: the routers that know of the split, and since when, in seconds.
        """
        if (state := self.regions.get(region)) is None:
            return _closed(region)
        if (whole := self.judge(now)).failed:
            return whole
        return judge_pass(state, now, self.silent(region, now, expected))

    def judge_step(
        self, region: str, now: float, *, expected: Mapping[str, float], bake_s: float
    ) -> Verdict:
        """Return whether the canary may get a larger share in a region (PASS), or the failure.

        For the step to 100 %, ask `judge_region`: after it there is nothing to compare with.
        """
        if (state := self.regions.get(region)) is None:
            return _closed(region)
        if (whole := self.judge(now)).failed:
            return whole
        return judge_step(state, now, self.silent(region, now, expected), bake_s)

    def judge_together(
        self, verdicts: Mapping[str, Verdict], now: float, *, step: bool
    ) -> Verdict | None:
        """Return what the regions of a wave that did not pass alone are together; `step`: whether
        it is a larger share that is asked for. None: that is not wanted, or more than their size
        keeps one of them."""
        small = {region: v for region, v in verdicts.items() if not v.passed}
        if not self.limits.pool or len(small) < 2:
            return None
        if any(v.reason not in _SMALL for v in small.values()):
            return None
        return judge_together([self.regions[region] for region in small], now, step=step)

    def silent(self, region: str, now: float, expected: Mapping[str, float]) -> dict[str, float]:
        """Return the expected routers that did not report in time, and for how many seconds."""
        tails, found = self.regions[region].tails, {}
        for router, since in expected.items():
            last = max(since, tails[router].at) if router in tails else since
            if (quiet := now - last) > 3 * self.limits.report_s:
                found[router] = quiet
        return found

    def overdue(self, region: str, now: float) -> bool:
        """Is the longest bake of a region over?"""
        state = self.regions.get(region)
        return (
            state is not None and state.weight > 0 and (now - state.began >= self.limits.max_bake_s)
        )

    def copy(self) -> "Analysis":
        """Return the same analysis, to be changed on its own."""
        return Analysis(
            limits=self.limits,
            planned=self.planned,
            regions={name: state.copy() for name, state in self.regions.items()},
            ended=list(self.ended),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON; exact."""
        return {
            "limits": asdict(self.limits),
            "planned": self.planned,
            "regions": [state.to_json() for state in self.regions.values()],
            "ended": [[e.region, e.metric.value, e.log_harm, e.words] for e in self.ended],
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "Analysis":
        """Return what `to_json` told of."""
        limits = Limits(**{**state["limits"], "shadow": Shadow(state["limits"]["shadow"])})
        regions = [RegionState.from_json(region, limits) for region in state["regions"]]
        return cls(
            limits=limits,
            planned=state["planned"],
            regions={r.region: r for r in regions},
            ended=[
                Ended(r, Metric(m), log_harm, words) for r, m, log_harm, words in state["ended"]
            ],
        )

    def __repr__(self) -> str:
        opened = ", ".join(f"{r.region} {r.weight:g} %" for r in self.regions.values())
        return f"Analysis({opened or 'no region open'}; evidence {self.evidence():.3g})"


def _closed(region: str) -> Verdict:
    words = f"inconclusive: {region} is not being judged"
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.CLOSED, words=words, region=region)


def expired(verdict: Verdict, elapsed_s: float) -> Verdict:
    """Return an inconclusive verdict at the end of the longest bake: it asks for a person."""
    return Verdict(
        outcome=verdict.outcome,
        reason=verdict.reason,
        words=f"{verdict.words}; after {span(elapsed_s)} of baking",
        region=verdict.region,
        metric=verdict.metric,
        pause=True,
        details=verdict.details,
    )
