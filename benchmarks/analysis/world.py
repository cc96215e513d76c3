"""Two versions that serve one region side by side: synthetic traffic, seeded.

Input: a World and a random generator. Output: counts by run, tick and user bucket, and the latency
rules that follow from a finite sample of the stable version's past.

Arrivals are Poisson in ticks of 10 s. Clients stay with a version and a bucket, differ in activity,
in errors and in latency. Bursts hit both versions; slow noise hits one; traffic and latency drift.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from federation.policy.analysis.histograms import LEAST, index_of
from federation.policy.analysis.itself import own_rule
from federation.policy.analysis.limits import Limits, Metric
from federation.policy.analysis.rules import Reference, Rule, slow_above, slow_rule

BUCKETS = 32
TICK_S = 10.0
BURST_S = 30.0

Floats = NDArray[np.float64]
Sample = Callable[[np.random.Generator, int], Floats]
Tail = Callable[[Floats], Floats]

_Z = np.linspace(-9.0, 9.0, 6001)
_ABOVE = np.array([0.5 * math.erfc(z / math.sqrt(2)) for z in _Z])


def _normal_tail(z: Floats) -> Floats:
    return np.asarray(np.interp(z, _Z, _ABOVE, left=1.0, right=0.0))


@dataclass(frozen=True)
class Latency:
    """Mixture of lognormal modes (share, median, sigma) and a Pareto tail (share, from, index)."""

    modes: tuple[tuple[float, float, float], ...]
    tail: tuple[float, float, float] | None = None

    def above(self, x: Floats) -> Floats:
        total = np.zeros_like(x)
        for share, median, sigma in self.modes:
            total += share * _normal_tail(np.log(np.maximum(x, 1e-12) / median) / sigma)
        if self.tail:
            share, start, index = self.tail
            total += share * np.where(x < start, 1.0, (np.maximum(x, start) / start) ** -index)
        return total

    def sample(self, rng: np.random.Generator, size: int) -> Floats:
        parts = [*self.modes, *([self.tail] if self.tail else [])]
        which = rng.choice(len(parts), size, p=[part[0] for part in parts])
        out = np.empty(size)
        for i, (_, a, b) in enumerate(parts):
            here = which == i
            n = int(here.sum())
            if i < len(self.modes):
                out[here] = a * np.exp(rng.normal(0, b, n))
            else:
                out[here] = a * rng.random(n) ** (-1 / b)
        return out


LATENCIES: Mapping[str, Latency] = {
    "narrow": Latency(((1.0, 1.0, 0.5),)),
    "wide": Latency(((1.0, 1.0, 1.0),)),
    "Pareto tail": Latency(((0.9, 1.0, 0.4),), (0.1, 2.0, 1.5)),
    "two modes": Latency(((0.88, 1.0, 0.25), (0.12, 8.0, 0.25))),
    "mode edge": Latency(((0.955, 1.0, 0.25), (0.045, 8.0, 0.25))),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """`canary_errors` None = as the stable; `line` = (slope, slack) that the canary's errors keep
    to exactly. In a burst both fail 20 times as often. `users` 0 = every request is a client of its
    own. `weights` = (minute, share)."""

    rps: float = 20.0
    weight: float = 0.05
    weights: tuple[tuple[float, float], ...] = ()
    minutes: float = 20.0
    errors: float = 0.001
    canary_errors: float | None = None
    line: tuple[float, float] | None = None
    slower: float = 1.0
    latency: str = "narrow"
    users: int = 0
    activity: float = 1.0  # spread of ln(activity)
    proneness: float = 1.0  # coefficient of variation of errors among clients
    pace: float = 0.25  # spread of ln(latency) among clients
    bursts: float = 0.0  # share of the time
    noise: float = 0.0  # spread of ln(latency) of one version alone; errors wobble by twice that
    memory_s: float = 30.0
    drift: bool = False
    onset_min: float = 0.0
    p95_ratio: float = 1.2  # the limit
    alone: bool = False  # compared with the past of the stable version, not with its present
    halves: float = 1.0  # how many times as long answers take for one half of all clients


@dataclass
class Runs:
    """Counts [run, tick, bucket] of canary and stable by metric, and each run's latency rules: for
    the canary, and for the stable version against itself."""

    requests: tuple[NDArray[np.int64], NDArray[np.int64]]
    bad: dict[Metric, tuple[NDArray[np.int64], NDArray[np.int64]]]
    rules: list[Rule] = field(default_factory=list)
    own: list[Rule] = field(default_factory=list)


def references(
    world: World, runs: int, rng: np.random.Generator
) -> tuple[list[Rule], list[Rule], Floats]:
    """Return latency rules, those of the stable version against itself, and bounds [run, (canary,
    stable)], from 6,000 past requests each."""
    limits = Limits(max_p95_ratio=world.p95_ratio)
    rules, own, bounds = [], [], np.empty((runs, 2))
    one = LATENCIES[world.latency]
    for i in range(runs):
        indexes = np.ceil(np.log2(one.sample(rng, 6000)) * 16).astype(int) - 1
        values, counts = np.unique(np.maximum(indexes, LEAST), return_counts=True)
        latency = dict(zip(values.tolist(), counts.tolist(), strict=True))
        reference = Reference(requests=6000, latency=latency)
        slow = slow_above(limits, reference)
        assert slow is not None
        rules.append(slow_rule(slow, reference, alone=world.alone))
        own.append(own_rule(slow, reference))
        bounds[i] = slow.canary_ms, slow.stable_ms
    return rules, own, bounds


def _clients(
    world: World, runs: int, rng: np.random.Generator, weights: Floats
) -> tuple[Floats, Floats, Floats]:
    """Shares of traffic, error factors, ln latency offsets: [version, weight, run, bucket]."""
    shape = (2, len(weights), runs, BUCKETS)
    share, prone, pace = np.zeros(shape), np.ones(shape), np.zeros(shape)
    if not world.users:
        for w, weight in enumerate(weights):
            share[0, w], share[1, w] = weight / BUCKETS, (1 - weight) / BUCKETS
        return share, prone, pace
    active = np.exp(rng.normal(0, world.activity, (runs, world.users)))
    active /= active.sum(1, keepdims=True)
    k = 1 / world.proneness**2
    factor = rng.gamma(k, 1 / k, (runs, world.users))
    offset = rng.normal(0, world.pace, (runs, world.users))
    place, bucket = rng.random((runs, world.users)), rng.integers(0, BUCKETS, (runs, world.users))
    flat = (np.arange(runs)[:, None] * BUCKETS + bucket).ravel()

    def by_bucket(values: Floats) -> Floats:
        return (
            np.bincount(flat, values.ravel(), runs * BUCKETS).reshape(runs, BUCKETS).astype(float)
        )

    for w, weight in enumerate(weights):
        for v, mine in enumerate((place < weight, place >= weight)):
            part = np.where(mine, active, 0.0)
            share[v, w] = by_bucket(part)
            some = np.maximum(share[v, w], 1e-15)
            prone[v, w] = by_bucket(part * factor) / some
            pace[v, w] = by_bucket(part * offset) / some
    return share, prone, pace


def _bursts(world: World, runs: int, ticks: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    out = np.zeros((runs, ticks), bool)
    ends = TICK_S / BURST_S
    begins = ends * world.bursts / (1 - world.bursts)
    now = np.zeros(runs, bool)
    for t in range(ticks if world.bursts else 0):
        dice = rng.random(runs)
        now = np.where(now, dice > ends, dice < begins)
        out[:, t] = now
    return out


def _noise(world: World, runs: int, ticks: int, rng: np.random.Generator) -> Floats:
    out = np.zeros((2, runs, ticks))
    if not world.noise:
        return out
    keep = math.exp(-TICK_S / world.memory_s)
    now = rng.normal(0, world.noise, (2, runs))
    for t in range(ticks):
        now = keep * now + math.sqrt(1 - keep**2) * rng.normal(0, world.noise, (2, runs))
        out[:, :, t] = now
    return out


def draw(world: World, runs: int, rng: np.random.Generator) -> Runs:
    """Return the counts of `runs` runs."""
    ticks = int(world.minutes * 60 / TICK_S)
    t = np.arange(ticks)
    rules, own, bounds = references(world, runs, rng)
    plan = world.weights or ((0.0, world.weight),)
    at = np.searchsorted([minute * 60 / TICK_S for minute, _ in plan], t, side="right") - 1
    share, prone, pace = _clients(world, runs, rng, np.array([w for _, w in plan]))
    swing = np.sin(2 * np.pi * t / ticks) if world.drift else np.zeros(ticks)
    slowly = np.sin(2 * np.pi * t / ticks + 1) if world.drift else np.zeros(ticks)
    burst, noise = _bursts(world, runs, ticks, rng), _noise(world, runs, ticks, rng)
    on = t * TICK_S >= world.onset_min * 60
    above = LATENCIES[world.latency].above
    requests, errors, slow = [], [], []
    halves = np.where(np.arange(BUCKETS) % 2, 1.0, world.halves)
    for v in range(2):
        mine, worse, offset = (np.moveaxis(x[v][at], 0, 1) for x in (share, prone, pace))
        n = rng.poisson((world.rps * TICK_S * (1 + 0.5 * swing))[None, :, None] * mine)
        rate = world.errors * np.where(burst, 20.0, 1.0)
        if v == 0 and world.line:
            rate = world.line[0] * rate + world.line[1]
        elif v == 0 and world.canary_errors is not None:
            rate = np.where(on[None, :], world.canary_errors / world.errors, 1.0) * rate
        rate = rate * np.exp(2 * noise[v] - 2 * world.noise**2)
        requests.append(n)
        errors.append(rng.binomial(n, np.clip(rate[:, :, None] * worse, 0, 0.95)))
        scale = np.where(on, world.slower if v == 0 else 1.0, 1.0) * (1 + 0.2 * slowly)
        scale = scale[None, :] * np.where(burst, 1.5, 1.0) * np.exp(noise[v])
        x = bounds[:, v, None, None] / (scale[:, :, None] * np.exp(offset) * halves)
        slow.append(rng.binomial(n, np.clip(above(x), 0, 1)))
    bad = {Metric.ERRORS: (errors[0], errors[1]), Metric.P95: (slow[0], slow[1])}
    return Runs((requests[0], requests[1]), bad, rules, own)


def histogram(latency: str, rng: np.random.Generator, size: int, scale: float) -> dict[int, int]:
    """Return answered requests by latency index; the distributions' unit is 100 ms."""
    out: dict[int, int] = {}
    for ms in (100 * scale * LATENCIES[latency].sample(rng, size)).tolist():
        index = index_of(ms)
        out[index] = out.get(index, 0) + 1
    return out
