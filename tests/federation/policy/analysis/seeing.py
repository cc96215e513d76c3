"""Counts and reports for the tests of the analysis."""

import random
from dataclasses import dataclass, field

from federation.contract.rollout import USER_BUCKETS
from federation.policy.analysis.analysis import Analysis
from federation.policy.analysis.counting import Counts, RouterReport
from federation.policy.analysis.limits import Limits
from federation.policy.analysis.rules import Reference

LATENCY = {100: 10, 105: 60, 110: 25, 115: 5}  # 76 to 156 ms; p95 is at the end of index 110
REFERENCE = Reference(requests=10_000, errors=10, latency={i: 100 * c for i, c in LATENCY.items()})
QUICK = Limits(settle_s=0.0, min_bake_s=60.0)


def columns(
    rng: random.Random, requests: int, share: float, buckets: int = USER_BUCKETS
) -> tuple[list[int], list[int]]:
    """Requests and bad ones by bucket, spread evenly."""
    n, k = [0] * buckets, [0] * buckets
    for _ in range(requests):
        bucket = rng.randrange(buckets)
        n[bucket] += 1
        k[bucket] += rng.random() < share
    return n, k


def plus(old: Counts, requests: int, **bad: int) -> Counts:
    """More of a version: requests and bad ones go round the buckets."""

    def grown(column: tuple[int, ...], more: int) -> tuple[int, ...]:
        part, rest = divmod(more, USER_BUCKETS)
        start = sum(column)
        turns = ((i - start) % USER_BUCKETS for i in range(USER_BUCKETS))
        return tuple(x + part + (turn < rest) for x, turn in zip(column, turns, strict=True))

    latency = {i: old.latency.get(i, 0) + c * requests // 100 for i, c in LATENCY.items()}
    return Counts(
        requests=grown(old.requests, requests),
        errors=grown(old.errors, bad.get("errors", 0)),
        refused=grown(old.refused, bad.get("refused", 0)),
        slow=grown(old.slow, bad.get("slow", 0)),
        latency=latency,
        compared=old.compared + bad.get("compared", 0),
        disagreed=old.disagreed + bad.get("disagreed", 0),
    )


@dataclass
class Router:
    """A router that counts and reports."""

    name: str = "pop-1"
    boot: str = "a"
    sequence: int = 0
    stable: Counts = field(default_factory=Counts)
    canary: Counts = field(default_factory=Counts)

    def report(self) -> RouterReport:
        self.sequence += 1
        return RouterReport(
            router=self.name,
            boot=self.boot,
            sequence=self.sequence,
            stable=self.stable,
            canary=self.canary,
        )

    def serve(self, stable: int, canary: int, **canary_bad: int) -> None:
        self.stable = plus(self.stable, stable, slow=stable // 20)
        self.canary = plus(self.canary, canary, **{"slow": canary // 50, **canary_bad})


def opened(limits: Limits = QUICK, *, weight: float = 10.0, regions: int = 10) -> Analysis:
    """An analysis whose region us-east gets traffic from second 0 on."""
    analysis = Analysis.begin(limits, regions=regions)
    analysis.open("us-east", 0.0, REFERENCE)
    analysis.weigh("us-east", weight, 0.0)
    return analysis


def run(
    analysis: Analysis,
    router: Router,
    reports: int,
    *,
    stable: int = 450,
    canary: int = 50,
    **bad: int,
) -> float:
    """Let a router serve and report every 5 s; returns the time after the last report."""
    now = max((t.at for t in analysis.regions["us-east"].tails.values()), default=0.0)
    if router.name not in analysis.regions["us-east"].tails:
        analysis.take("us-east", router.report(), now)
    for _ in range(reports):
        now += 5.0
        router.serve(stable, canary, **bad)
        analysis.take("us-east", router.report(), now)
    return now
