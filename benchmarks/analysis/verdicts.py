"""Whole rollouts through the product's code: routers count, weights rise, verdicts are read.

Input: a fault and the traffic of one region. Output: how the rollouts end, when, and in which
words. Two routers report cumulative counters every 5 s; the canary gets 5 %, then 25 %, and all of
it once the region passes. What is left after 20 minutes waits for a person.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.analysis.world import LATENCIES, Floats
from federation.contract.rollout import USER_BUCKETS, AnalysisSpec, SlowAbove, VersionCounts
from federation.policy.analysis.analysis import Analysis
from federation.policy.analysis.counting import Counts, RouterReport
from federation.policy.analysis.limits import limits_of
from federation.policy.analysis.rules import Reference
from federation.policy.analysis.verdict import Verdict

REPORT_S, END_S, ROUTERS = 5.0, 1200.0, ("pop-a", "pop-b")
FAULTS: Mapping[str, dict[str, Any]] = {
    "none": {},
    "10× slow": {"slower": 10.0},
    "p95 +38 %": {"slower": 1.38},
    "p95 +10 %, allowed": {"slower": 1.1},
    "errors 5 %": {"errors": 0.05},
    "errors 5 % from second 150": {"errors": 0.05, "onset_s": 150.0},
}


@dataclass
class Version:
    """What a router counted of one version since it started."""

    columns: list[Any] = field(default_factory=lambda: [np.zeros(USER_BUCKETS, int)] * 3)
    latency: Counter[int] = field(default_factory=Counter)

    def count(self, bucket: Any, failed: Any, slow: Any, ms: Floats) -> None:
        more = [
            np.bincount(b, minlength=USER_BUCKETS) for b in (bucket, bucket[failed], bucket[slow])
        ]
        self.columns = [old + new for old, new in zip(self.columns, more, strict=True)]
        indexes = np.ceil(np.log2(ms[~failed]) * 16).astype(int) - 1
        self.latency.update(indexes.tolist())

    def told(self) -> Counts:
        requests, errors, slow = (tuple(c.tolist()) for c in self.columns)
        return Counts.of(
            VersionCounts(
                model="m",
                version=1,
                region="us-east",
                requests=requests,
                errors=errors,
                slow=slow,
                latency=dict(self.latency),
            )
        )


def one(
    rng: np.random.Generator, rps: float, fault: Mapping[str, float]
) -> tuple[str, float, Verdict]:
    """Return how a rollout ended, after how many seconds, and the last verdict."""
    body = LATENCIES["narrow"]
    past = Version()
    past.count(
        np.zeros(3000, int),
        np.zeros(3000, bool),
        np.zeros(3000, bool),
        100 * body.sample(rng, 3000),
    )
    analysis = Analysis.begin(limits_of(AnalysisSpec()), regions=10)
    reference = Reference(requests=3000, errors=3, latency=dict(past.latency))
    slow = analysis.open("us-east", 0.0, reference)
    assert slow is not None
    seen = {router: (Version(), Version()) for router in ROUTERS}
    weight, now = 5.0, 0.0
    analysis.weigh("us-east", weight, now)
    expected = dict.fromkeys(ROUTERS, 0.0)
    while True:
        now += REPORT_S
        for router, versions in seen.items():
            _traffic(rng, versions, rps * REPORT_S / 2, weight / 100, slow, fault, now)
            report = RouterReport(
                router=router,
                boot="1",
                sequence=round(now),
                stable=versions[1].told(),
                canary=versions[0].told(),
            )
            analysis.take("us-east", report, now)
        verdict = analysis.judge(now)
        if verdict.failed:
            return "aborted", now, verdict
        if weight < 25:
            verdict = analysis.judge_step("us-east", now, expected=expected, bake_s=120.0)
            if verdict.passed:
                weight = 25.0
                analysis.weigh("us-east", weight, now)
        else:
            verdict = analysis.judge_region("us-east", now, expected=expected)
            if verdict.passed:
                return "passed", now, verdict
        if now >= END_S:
            return "paused", now, verdict


def _traffic(
    rng: np.random.Generator,
    versions: tuple[Version, Version],
    mean: float,
    weight: float,
    slow: SlowAbove,
    fault: Mapping[str, float],
    now: float,
) -> None:
    on = now >= fault.get("onset_s", 0.0)
    total = rng.poisson(mean)
    canary = rng.random(total) < weight
    for v, mine in enumerate((canary, ~canary)):
        n = int(mine.sum())
        errors = fault.get("errors", 0.001) if v == 0 and on else 0.001
        scale = fault.get("slower", 1.0) if v == 0 and on else 1.0
        ms = 100 * scale * LATENCIES["narrow"].sample(rng, n)
        failed = rng.random(n) < errors
        above = slow.canary_ms if v == 0 else slow.stable_ms
        versions[v].count(rng.integers(0, USER_BUCKETS, n), failed, ms > above, ms)


def rows(runs: int, seed: int) -> Iterator[str]:
    """Yield the table."""
    rng = np.random.default_rng(seed)
    yield "| fault | requests/s | aborted | passed | paused | median, s | one of the verdicts |"
    yield "|---|---|---|---|---|---|---|"
    for name, fault in FAULTS.items():
        for rps in (2, 20, 200):
            ends = [one(rng, rps, fault) for _ in range(runs)]
            kinds = Counter(end for end, _, _ in ends)
            most = kinds.most_common(1)[0][0]
            median = sorted(at for _, at, _ in ends)[runs // 2]
            words = next(v.words for end, _, v in ends if end == most)
            shares = [f"{100 * kinds[k] / runs:.0f} %" for k in ("aborted", "passed", "paused")]
            yield f"| {name} | {rps} | {' | '.join(shares)} | {median:.0f} | {words} |"


def verdicts(runs: int, seed: int) -> None:
    """Print the table."""
    for line in rows(runs, seed):
        print(line, flush=True)
