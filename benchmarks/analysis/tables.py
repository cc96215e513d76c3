"""The tables of docs/analysis.md: false aborts, power, false passes, in worlds of many kinds.

Input: numbers of runs and a seed. Output: markdown rows. Levels: 5 % for one process alone, and
0.1 %, which is what one of 50 processes of a rollout with alpha = 5 % comes down to.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.analysis.vector import evidence, itself
from benchmarks.analysis.world import TICK_S, Floats, Runs, World, draw
from benchmarks.analysis.worlds import (
    ALL_OF_IT,
    ALONE,
    BASELINES,
    CALM,
    FAULTS,
    HELD_OUT,
    REGIONS,
    TRAFFIC,
    WORLDS,
)
from federation.policy.analysis.itself import ALARM
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.region import OWN_PAIRS
from federation.policy.analysis.rules import Rule
from federation.policy.analysis.split_check import mismatch

L20, L1000 = math.log(20), math.log(1000)
LINE = (1.25, 0.0005)
ONE_PERCENT = (1.25, 0.00875)  # the default limit, where the stable version has 0.1 %
CHUNK = 100  # runs drawn at once
METRICS = (Metric.ERRORS, Metric.P95)


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
        own = [rule for p in parts for rule in p.own]
        return Runs((requests[0], requests[1]), bad, rules, own)


def line_of(world: World) -> tuple[float, float]:
    """The strictest line; all traffic at once is judged by the default one."""
    return ONE_PERCENT if world.alone else LINE


def line_rule(world: World, line: tuple[float, float] | None = None) -> Rule:
    line = line or line_of(world)
    usual = max(world.errors, 1e-4)
    slope, slack = (0.0, line[0] * usual + line[1]) if world.alone else line
    return Rule(metric=Metric.ERRORS, slope=slope, slack=slack, usual=usual)


def judged(runs: Runs, metric: Metric, world: World) -> tuple[Floats, Floats]:
    return evidence(runs, metric, line_rule(world) if metric is Metric.ERRORS else None)


def at_limit(world: World) -> World:
    return replace(world, line=line_of(world), slower=1.2)


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


ROLLOUTS: Mapping[str, dict[str, Any]] = {
    "independent requests": {},
    "2,000 users, bursts, noise 5 %, drift": {**ALL_OF_IT, "noise": 0.05},
    "2,000 users, bursts, noise 10 %, drift": {**ALL_OF_IT, "noise": 0.1},
}


def aborted(
    bench: Bench, settings: dict[str, Any], change: Callable[[World], World], regions: int = 10
) -> Any:
    """Whether a rollout is ever aborted, by run. Regions come one after another; 50 processes, of
    which two a region are simulated and the others stand at 1."""
    idle = 50 - 2 * regions
    done, peak = np.full(bench.runs, float(idle)), np.zeros(bench.runs)
    for r in range(regions):
        rps, weight = REGIONS[r % 5]
        world = World(**{**settings, "rps": rps, "weight": weight, "errors": BASELINES[r % 3]})
        runs = bench.draw(change(world))
        both = [np.exp(np.minimum(judged(runs, m, world)[0], 50)) for m in METRICS]
        coming = 2 * (regions - 1 - r)
        peak = np.maximum(peak, (done[:, None] + sum(both) + coming).max(1) / 50)
        done += sum(e[:, -1] for e in both)
    return peak >= 20


def rollouts(bench: Bench) -> Iterator[str]:
    yield head("versions", "world", "rollouts aborted, %")
    for name, settings in ROLLOUTS.items():
        yield row("every region at its limits", name, pc(aborted(bench, settings, at_limit)))
    for name, settings in ROLLOUTS.items():
        yield row("equal", name, pc(aborted(bench, settings, lambda w: w)))


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


def held(runs: Runs) -> Runs:
    """Pairs of answers, those of a tick kept for a later one until enough are of the stable with
    itself; in one bucket."""
    columns = [c.sum(2, keepdims=True) for c in (*runs.requests, *runs.bad[Metric.ERRORS])]
    for t in range(columns[0].shape[1] - 1):
        waiting = columns[1][:, t, 0] < OWN_PAIRS
        for c in columns:
            c[:, t + 1, 0] += np.where(waiting, c[:, t, 0], 0)
            c[:, t, 0] = np.where(waiting, 0, c[:, t, 0])
    canary, stable, wrong, differing = columns
    return Runs((canary, stable), {Metric.ERRORS: (wrong, differing)}, runs.rules, runs.own)


def quality(bench: Bench) -> Iterator[str]:
    """Shadow pairs: one of the stable with itself comes with two of the canary with the stable."""
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
            world = World(rps=1.5 * pairs, weight=2 / 3, errors=max(own, 1e-9))
            rules = [line_rule(world, (1.0, slack)) for slack in (0.005, 0.01)]
            worse = held(bench.draw(replace(world, canary_errors=own + 0.02)))
            equal = held(bench.draw(world))
            border = held(bench.draw(replace(world, line=(1.0, 0.01))))
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


def against_itself(bench: Bench) -> Iterator[str]:
    """How often latency is not judged, since the stable version differs from itself."""
    yield head("world", "alarms within 20 min, %", "median of those")
    worlds = {**WORLDS, **HELD_OUT}
    for factor in (1.1, 1.2, 1.4, 1.6, 2.0):
        told = f"one half of the clients +{100 * (factor - 1):.0f} %"
        worlds[f"{told}, 20 rps"] = {"halves": factor}
        worlds[f"{told}, 200 rps, 2,000 users, bursts, noise 5 %"] = {**CALM, "halves": factor}
    for name, settings in worlds.items():
        hits = itself(bench.draw(World(**settings))) >= ALARM
        some = hits.any(1)
        first = hits.argmax(1)[some] + 1
        median = f"{TICK_S * float(np.median(first)):.0f} s" if some.any() else "never"
        yield row(name, pc(some), median)


def at_once(bench: Bench) -> Iterator[str]:
    """All traffic at once: the canary against the stable version's last hour."""
    yield from false_alarms(bench, ALONE)
    yield ""
    yield head("fault", *ALONE)
    for fault, (metric, effect) in FAULTS.items():
        found = []
        for settings in ALONE.values():
            world = World(**settings, **effect)
            found.append(caught(judged(bench.draw(world), metric, world)[0] > L1000))
        yield row(fault, *found)


def pooled(bench: Bench, regions: int = 3) -> Iterator[str]:
    """Small regions of one wave together: the product of their evidence of safety."""
    yield head(
        "each of three regions",
        "metric",
        "all at the limit: passed together, %",
        "one at it, two equal: passed together, %",
        "equal: one alone passed",
        "equal: passed together",
    )
    for name in ("2 rps, 5 %", "2 rps, weight 25 %", "20 rps, 1 %"):
        world = World(**{**WORLDS, **TRAFFIC}[name])
        border = replace(world, line=ONE_PERCENT, slower=1.2)
        for metric in METRICS:
            rule = line_rule(world, ONE_PERCENT) if metric is Metric.ERRORS else None
            bad, good = (
                [evidence(bench.draw(w), metric, rule)[1] for _ in range(regions)]
                for w in (border, world)
            )
            mixed = np.sum([bad[0], *good[1:]], axis=0)
            yield row(
                name,
                metric.value,
                pc((np.sum(bad, axis=0) > L20).any(1)),
                pc((mixed > L20).any(1)),
                caught(good[0] > L20),
                caught(np.sum(good, axis=0) > L20),
            )


TABLES: Mapping[str, Callable[[Bench], Iterator[str]]] = {
    "worlds": lambda bench: false_alarms(bench, WORLDS),
    "held-out": lambda bench: false_alarms(bench, HELD_OUT),
    "rollouts": rollouts,
    "power": power,
    "promotion": promotion,
    "ratios": ratios,
    "quality": quality,
    "split": split,
    "itself": against_itself,
    "at-once": at_once,
    "pooled": pooled,
}
