"""The tables of docs/analysis.md: false aborts, power, false passes, in worlds of many kinds.

Input: numbers of runs and a seed. Output: markdown rows. Levels: 5 % for one process alone, and
0.1 %, which is what one of 50 processes of a rollout with alpha = 5 % comes down to.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.analysis.vector import evidence
from benchmarks.analysis.world import TICK_S, Floats, Runs, World, draw
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.rules import Rule
from federation.policy.analysis.split_check import mismatch

L20, L1000 = math.log(20), math.log(1000)
LINE = (1.25, 0.0005)
CHUNK = 100  # runs drawn at once
METRICS = (Metric.ERRORS, Metric.P95)
BUSY: dict[str, Any] = {"rps": 200}
ALL_OF_IT: dict[str, Any] = {"rps": 200, "users": 2000, "bursts": 0.05, "drift": True}
CALM: dict[str, Any] = {**BUSY, "users": 2000, "bursts": 0.05, "noise": 0.05}

WORLDS: Mapping[str, dict[str, Any]] = {
    "2 rps, weight 25 %": {"rps": 2, "weight": 0.25},
    "20 rps, 1 %": {"weight": 0.01},
    "20 rps, 5 %": {},
    "200 rps, 1 %": {**BUSY, "weight": 0.01},
    "200 rps, 5 %": BUSY,
    "200 rps, 25 %": {**BUSY, "weight": 0.25},
    "200, 5 %, wide": {**BUSY, "latency": "wide"},
    "200, 5 %, Pareto tail": {**BUSY, "latency": "Pareto tail"},
    "200, 5 %, two modes": {**BUSY, "latency": "two modes"},
    "200, 5 %, mode edge": {**BUSY, "latency": "mode edge"},
    "200, 5 %, common bursts": {**BUSY, "bursts": 0.05},
    "200, 5 %, drift": {**BUSY, "drift": True},
    "200, 5 %, one-sided noise 5 %": {**BUSY, "noise": 0.05},
    "200, 5 %, one-sided noise 10 %": {**BUSY, "noise": 0.1},
    "200, 5 %, 20,000 sticky users": {**BUSY, "users": 20000},
    "200, 5 %, 2,000 sticky users": {**BUSY, "users": 2000},
    "200, 5 %, 500 sticky users": {**BUSY, "users": 500},
    "20, 25 %, 200 sticky users": {"weight": 0.25, "users": 200},
    "200, 1 %, 2,000 sticky users": {**BUSY, "weight": 0.01, "users": 2000},
    "2,000 users, bursts, noise 10 %, drift": {**ALL_OF_IT, "noise": 0.1},
    "steps 5, 25, 50 %, 2,000 users, bursts": {
        **BUSY,
        "users": 2000,
        "bursts": 0.05,
        "weights": ((0, 0.05), (4, 0.25), (10, 0.5)),
    },
    "steps 1, 10, 50 %, drift, noise 5 %": {
        **BUSY,
        "drift": True,
        "noise": 0.05,
        "weights": ((0, 0.01), (5, 0.1), (12, 0.5)),
    },
}
# Worlds that had no part in choosing the method's numbers.
HELD_OUT: Mapping[str, dict[str, Any]] = {
    "one-sided noise 5 %, 120 s memory": {**BUSY, "noise": 0.05, "memory_s": 120.0},
    "one-sided noise 10 %, 10 s memory": {**BUSY, "noise": 0.1, "memory_s": 10.0},
    "one-sided noise 10 %, 300 s memory": {**BUSY, "noise": 0.1, "memory_s": 300.0},
    "5,000 users, activity sd 1.5, latency sd 0.4": {
        **BUSY,
        "users": 5000,
        "activity": 1.5,
        "pace": 0.4,
    },
    "2 % errors, 2,000 users, error CV 3": {
        **BUSY,
        "users": 2000,
        "errors": 0.02,
        "proneness": 3.0,
    },
    "0.01 % errors": {**BUSY, "errors": 0.0001},
    "bursts 20 % of the time, 2,000 users, 25 %": {
        "rps": 100,
        "weight": 0.25,
        "bursts": 0.2,
        "users": 2000,
    },
    "50 rps, steps 5, 25 %, 1,000 users, activity sd 1.5, drift": {
        "rps": 50,
        "users": 1000,
        "activity": 1.5,
        "drift": True,
        "weights": ((0, 0.05), (5, 0.25)),
    },
}
FAULTS: Mapping[str, tuple[Metric, dict[str, Any]]] = {
    "10× slow": (Metric.P95, {"slower": 10.0}),
    "p95 +100 %": (Metric.P95, {"slower": 2.0}),
    "p95 +38 %": (Metric.P95, {"slower": 1.38}),
    "p95 +20 % (the limit)": (Metric.P95, {"slower": 1.2}),
    "errors 5 %": (Metric.ERRORS, {"canary_errors": 0.05}),
    "errors 1 %": (Metric.ERRORS, {"canary_errors": 0.01}),
    "errors 0.3 %": (Metric.ERRORS, {"canary_errors": 0.003}),
    "10× slow from minute 13": (Metric.P95, {"slower": 10.0, "onset_min": 13.0}),
    "errors 5 % from minute 13": (Metric.ERRORS, {"canary_errors": 0.05, "onset_min": 13.0}),
}
TRAFFIC: Mapping[str, dict[str, Any]] = {
    "2 rps, 5 %": {"rps": 2},
    "20 rps, 1 %": {"weight": 0.01},
    "20 rps, 5 %": {},
    "20 rps, 25 %": {"weight": 0.25},
    "200 rps, 1 %": {**BUSY, "weight": 0.01},
    "200 rps, 5 %": BUSY,
    "200 rps, 25 %": {**BUSY, "weight": 0.25},
    "200, 5 %, 2,000 users, bursts, noise 5 %": CALM,
}
REGIONS = ((2, 0.25), (20, 0.05), (200, 0.05), (200, 0.01), (50, 0.25))  # rps, weight
BASELINES = (0.0005, 0.001, 0.005)


@dataclass
class Bench:
    """How many runs a row has, and its dice."""

    runs: int
    rng: np.random.Generator

    def draw(self, world: World) -> Runs:
        """In parts, since clients take memory."""
        sizes = [min(CHUNK, self.runs - done) for done in range(0, self.runs, CHUNK)]
        parts = [draw(world, size, self.rng) for size in sizes]
        requests = [np.concatenate([p.requests[v] for p in parts]) for v in range(2)]
        bad = {
            m: (
                np.concatenate([p.bad[m][0] for p in parts]),
                np.concatenate([p.bad[m][1] for p in parts]),
            )
            for m in METRICS
        }
        rules = [rule for p in parts for rule in p.rules]
        return Runs((requests[0], requests[1]), bad, rules)


def line_rule(world: World, line: tuple[float, float] = LINE) -> Rule:
    usual = max(world.errors, 1e-4)
    return Rule(metric=Metric.ERRORS, slope=line[0], slack=line[1], usual=usual)


def judged(runs: Runs, metric: Metric, world: World) -> tuple[Floats, Floats]:
    return evidence(runs, metric, line_rule(world) if metric is Metric.ERRORS else None)


def at_limit(world: World) -> World:
    return replace(world, line=LINE, slower=1.2)


def pc(hits: Floats | Any) -> str:
    return f"{100 * float(np.mean(hits)):.1f}"


def caught(hits: Any) -> str:
    """Share of the runs, and the median time over all of them."""
    some = hits.any(1)
    if not some.any():
        return "never"
    seconds = np.where(some, (hits.argmax(1) + 1) * TICK_S, np.inf)
    median = np.sort(seconds)[len(seconds) // 2]
    return f"{100 * some.mean():.0f} %" + (f", {median:.0f} s" if np.isfinite(median) else "")


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*cells: str) -> str:
    return row(*cells) + "\n" + "|---" * len(cells) + "|"


def false_alarms(bench: Bench, worlds: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    yield head(
        "world",
        "metric",
        "at the limit: aborted, 5 % level",
        "0.1 % level",
        "equal: 5 % level",
        "0.1 % level",
        "at the limit: passed (5 % level)",
        "equal: passed, median",
    )
    for name, settings in worlds.items():
        world = World(**settings)
        border, equal = bench.draw(at_limit(world)), bench.draw(world)
        for metric in METRICS:
            harm, safe = judged(border, metric, world)
            harm_equal, safe_equal = judged(equal, metric, world)
            yield row(
                name,
                metric.value,
                pc((harm > L20).any(1)),
                pc((harm > L1000).any(1)),
                pc((harm_equal > L20).any(1)),
                pc((harm_equal > L1000).any(1)),
                pc((safe > L20).any(1)),
                caught(safe_equal > L20),
            )


def power(bench: Bench) -> Iterator[str]:
    yield head("fault", "traffic", "caught within 20 min at the 0.1 % level, median")
    for fault, (metric, effect) in FAULTS.items():
        for traffic, settings in TRAFFIC.items():
            world = World(**settings, **effect)
            harm, _ = judged(bench.draw(world), metric, world)
            yield row(fault, traffic, caught(harm > L1000))


def rollouts(bench: Bench, regions: int = 10, idle: int = 30) -> Iterator[str]:
    """Regions come one after another; 50 processes, of which 20 are simulated and 30 stand at 1."""
    yield head("versions", "world", "rollouts aborted, %")
    kinds: dict[str, Callable[[World], World]] = {
        "equal": lambda w: w,
        "every region at its limits": at_limit,
    }
    worlds = {
        "independent requests": {},
        "2,000 users, bursts, noise 5 %, drift": {**ALL_OF_IT, "noise": 0.05},
        "2,000 users, bursts, noise 10 %, drift": {**ALL_OF_IT, "noise": 0.1},
    }
    planned = idle + 2 * regions
    for kind, change in kinds.items():
        for name, settings in worlds.items():
            done, peak = np.full(bench.runs, float(idle)), np.zeros(bench.runs)
            for r in range(regions):
                rps, weight = REGIONS[r % 5]
                errors = BASELINES[r % 3]
                own = {**settings, "rps": rps, "weight": weight, "errors": errors}
                world = World(**own)
                runs = bench.draw(change(world))
                both = [np.exp(np.minimum(judged(runs, m, world)[0], 50)) for m in METRICS]
                coming = 2 * (regions - 1 - r)
                peak = np.maximum(peak, (done[:, None] + sum(both) + coming).max(1) / planned)
                done += sum(e[:, -1] for e in both)
            yield row(kind, name, pc(peak >= 20))


def promotion(bench: Bench) -> Iterator[str]:
    yield head(
        "limit (stable: 0.1 %)",
        "traffic",
        "passed at the limit, %",
        "equal: passed, median",
        "errors 5 %: caught",
        "1 %",
        "0.3 %",
    )
    for limit in (0.01, 0.005, 0.003, 0.00175):
        line = (1.25, limit - 0.00125)
        for traffic in ("20 rps, 5 %", "20 rps, 25 %", "200 rps, 5 %", "200 rps, 25 %"):
            world = World(**TRAFFIC[traffic])
            rule = line_rule(world, line)
            _, border = evidence(bench.draw(replace(world, line=line)), Metric.ERRORS, rule)
            _, equal = evidence(bench.draw(world), Metric.ERRORS, rule)
            found = []
            for errors in (0.05, 0.01, 0.003):
                bad = bench.draw(replace(world, canary_errors=errors))
                harm, _ = evidence(bad, Metric.ERRORS, rule)
                found.append(caught(harm > L1000))
            passed = pc((border > L20).any(1))
            yield row(f"{100 * limit:g} %", traffic, passed, caught(equal > L20), *found)


def ratios(bench: Bench) -> Iterator[str]:
    """What another limit of p95 costs and gains."""
    yield head(
        "limit of p95", "traffic", "passed at the limit, %", "equal: passed, median", "10× slow"
    )
    for ratio in (1.1, 1.2, 1.5, 2.0, 3.0):
        for traffic in (
            "2 rps, 5 %",
            "20 rps, 5 %",
            "20 rps, 25 %",
            "200 rps, 5 %",
            "200 rps, 25 %",
        ):
            world = World(**TRAFFIC[traffic], p95_ratio=ratio)
            border = bench.draw(replace(world, slower=ratio))
            slow = bench.draw(replace(world, slower=10.0))
            yield row(
                f"+{100 * (ratio - 1):.0f} %",
                traffic,
                pc((evidence(border, Metric.P95)[1] > L20).any(1)),
                caught(evidence(bench.draw(world), Metric.P95)[1] > L20),
                caught(evidence(slow, Metric.P95)[0] > L1000),
            )


def quality(bench: Bench) -> Iterator[str]:
    """Shadow pairs: as many of the canary with the stable as of the stable with itself."""
    yield head(
        "pairs a second",
        "stable disagrees with itself",
        "+2 pp, slack 0.5 pp: caught",
        "slack 1 pp: caught",
        "equal: passed at 0.5 pp",
        "at 1 pp",
        "at the limit: passed at 1 pp, %",
    )
    for pairs in (1, 5, 20):
        for own in (0.0, 0.001, 0.02):
            world = World(rps=2 * pairs, weight=0.5, errors=max(own, 1e-9))
            rules = [line_rule(world, (1.0, slack)) for slack in (0.005, 0.01)]
            worse = bench.draw(replace(world, canary_errors=own + 0.02))
            equal = bench.draw(world)
            border = bench.draw(replace(world, line=(1.0, 0.01)))
            yield row(
                pairs,
                f"{100 * own:g} %",
                *(caught(evidence(worse, Metric.ERRORS, r)[0] > L1000) for r in rules),
                *(caught(evidence(equal, Metric.ERRORS, r)[1] > L20) for r in rules),
                pc((evidence(border, Metric.ERRORS, rules[1])[1] > L20).any(1)),
            )


def split(bench: Bench) -> Iterator[str]:
    """How often the split check is wrong where the split is as ordered, and right where not."""
    yield head("world", "looks that find a mismatch: ever in 20 min, %", "canary gets a quarter")
    few = ("200 rps, 5 %", "200, 5 %, 2,000 sticky users", "200, 5 %, 500 sticky users")
    for name in (*few, "20, 25 %, 200 sticky users", "200, 1 %, 2,000 sticky users"):
        world = World(**WORLDS[name])
        found = []
        for runs in (bench.draw(world), bench.draw(replace(world, weight=world.weight / 4))):
            canary, stable = (np.cumsum(n, 1) for n in runs.requests)
            hit = 0
            for i in range(bench.runs):
                looks = range(11, canary.shape[1], 12)  # every two minutes
                hit += any(
                    mismatch(canary[i, t].tolist(), (canary + stable)[i, t].tolist(), world.weight)
                    is not None
                    for t in looks
                )
            found.append(f"{100 * hit / bench.runs:.1f}")
        yield row(name, *found)


TABLES: Mapping[str, Callable[[Bench], Iterator[str]]] = {
    "worlds": lambda bench: false_alarms(bench, WORLDS),
    "held-out": lambda bench: false_alarms(bench, HELD_OUT),
    "rollouts": rollouts,
    "power": power,
    "promotion": promotion,
    "ratios": ratios,
    "quality": quality,
    "split": split,
}
