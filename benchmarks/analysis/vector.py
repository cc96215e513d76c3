"""The method of federation/policy/analysis for thousands of runs at once, in NumPy.

Input: counts [run, tick, bucket] and rules. Output: log evidence of harm and safety, [run, tick].
It is written a second time for speed; `agreement` compares both, number by number.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.analysis.world import TICK_S, Floats, Runs
from federation.policy.analysis.clumping import CV0, CV0_SLOW, PRIOR_BINS
from federation.policy.analysis.evidence import BIN_S, PSEUDO, RESTART_S, Evidence
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.rules import HARM_TIMES, LEAST, MOST, SAFE_AT, Rule

PER_BIN, PER_START = int(BIN_S / TICK_S), int(RESTART_S / TICK_S)


def _log_e(counts: Sequence[Floats], guess: tuple[Floats, Floats], line: tuple[Any, Any]) -> Floats:
    nc, kc, ns, ks = counts
    p1c, p1s = guess
    slope, slack = line
    if np.all(slope == 0):
        value = kc * np.log(p1c / slack) - nc * (p1c - slack)
        return np.asarray(np.where(nc > 0, value, 0.0))
    a = np.maximum(slope * (nc * slope + ns), 1e-300)
    b = nc * slope * (slack - p1c) + ns * (slack - slope * p1s)
    x = (np.sqrt(b * b + 4 * a * ns * p1s * slack) - b) / (2 * a)
    p0s = np.maximum(x, 1e-12)
    p0c = np.maximum(slope * x + slack, 1e-12)
    value = kc * np.log(p1c / p0c) + ks * np.log(p1s / p0s) - nc * (p1c - p0c) - ns * (p1s - p0s)
    return np.where((nc > 0) & (ns > 0), value, 0.0)


class _Clumping:
    def __init__(self, columns: Sequence[Floats], cv0: float, usual: Any) -> None:
        """`usual`: the share of bad requests if there is no stable version beside it."""
        self.cv0, self.usual = cv0, usual
        self.by_bucket = [np.cumsum(c, 1) for c in columns]
        zero = np.zeros((len(columns[0]), 1))
        self.sums = [np.concatenate([zero, np.cumsum(c.sum(2), 1)], 1) for c in columns]

    def _version(self, n: Floats, k: Floats) -> Floats:
        used, total, bad = (n > 0).sum(1), n.sum(1), k.sum(1)
        p = bad / np.maximum(total, 1)
        spread = ((k - p[:, None] * n) ** 2).sum(1) * used / np.maximum(used - 1, 1)
        phi = np.maximum(1.0, spread / np.maximum(total * p * (1 - p), 1.0))
        return np.asarray(np.where((used < 2) | (bad <= 0) | (bad >= total), 1.0, phi))

    def users(self, t: int) -> Floats:
        nc, kc, ns, ks = (c[:, t] for c in self.by_bucket)
        return np.maximum(self._version(nc, kc), self._version(ns, ks))

    @staticmethod
    def _measured(rows: Sequence[Floats]) -> Floats:
        a, k, s, q = rows
        m = a.shape[1]
        nc, kc, ns, ks = (x.sum(1) for x in rows)
        odds = ((kc + 0.5) / np.maximum(nc, 1)) / ((ks + 0.5) / np.maximum(ns, 1))
        part = odds[:, None] * a
        share = part / np.maximum(part + s, 1e-300)
        both = k + q
        square = ((k - both * share) ** 2).sum(1)
        variance = (both * share * (1 - share)).sum(1)
        value = square * m / (m - 1) / np.maximum(variance, 1.0)
        share = kc / np.maximum(nc, 1)
        square = ((k - a * share[:, None]) ** 2).sum(1)
        alone = square * m / (m - 1) / np.maximum(nc * share * (1 - share), 1.0)
        return np.asarray(np.where(nc > 0, np.where(ns > 0, value, alone), 0.0))

    def time(self, t: int, since: int, known: Floats | None) -> Floats:
        """Of the ticks [since, t]; `known` = what the process believed when it began."""
        edges = [*range(since, t + 1, PER_BIN), t + 1]
        rows = [np.diff(s[:, edges], axis=1) for s in self.sums]
        m = len(edges) - 1
        nc, _, ns, ks = (s[:, t + 1] for s in self.sums)
        all_bins = t // PER_BIN + 1
        share = (ks + 0.5) / np.maximum(ns, 1) if self.usual is None else self.usual
        believed = 1 + 2 * self.cv0**2 * nc * share / all_bins
        if known is not None:
            believed = known
        if m < 2:
            return np.asarray(believed)
        measured = self._measured(rows)
        if m >= 16:
            fours = [r[:, : m // 4 * 4].reshape(len(r), -1, 4).sum(2) for r in rows]
            measured = np.maximum(measured, self._measured(fours))
        phi = (PRIOR_BINS * believed + m * measured) / (PRIOR_BINS + m)
        return np.asarray(phi if known is None else np.maximum(known, phi))


def _log_sum(parts: Floats) -> Floats:
    top = parts.max(0)
    return np.asarray(top + np.log(np.exp(parts - top).sum(0)))


def _columns(runs: Runs, metric: Metric, *, alone: bool) -> list[Floats]:
    """Requests and bad ones of the canary, then of the stable version."""
    columns = [
        x.astype(float) for pair in zip(runs.requests, runs.bad[metric], strict=True) for x in pair
    ]
    return [*columns[:2], *(np.zeros_like(c) if alone else c for c in columns[2:])]


def evidence(runs: Runs, metric: Metric, rule: Rule | None = None) -> tuple[Floats, Floats]:
    """Return log evidence of harm and safety [run, tick]; without `rule`, each run has its own."""
    fixed = None
    line: tuple[Any, Any]
    if rule is None:
        rule = runs.rules[0]
        line = np.array([r.slope for r in runs.rules]), np.array([r.slack for r in runs.rules])
        harm = np.array([r.harm for r in runs.rules]).T
        safe = np.array([r.safe for r in runs.rules]).T
        fixed = harm, safe, np.array([r.usual for r in runs.rules])
    else:
        line = rule.slope, rule.slack
    alone = (fixed[2] if fixed else rule.usual) if rule.alone else None
    columns = _columns(runs, metric, alone=rule.alone)
    total, ticks = columns[0].shape[:2]
    flat = [c.sum(2) for c in columns]
    out = np.zeros((2, total, ticks))
    clumping = _Clumping(columns, CV0_SLOW if metric is Metric.P95 else CV0, alone)
    starts: list[tuple[int, Floats | None, Floats]] = []
    safes = np.zeros((2, total))
    for t in range(ticks):
        now = [c[:, t] for c in flat]
        if fixed is None:
            seen = clumping.sums
            usual = (seen[3][:, t] + PSEUDO * rule.usual) / (seen[2][:, t] + PSEUDO)
            usual = np.clip(usual, LEAST, MOST)
            limit = rule.slope * usual + rule.slack
            harm = np.array([np.minimum(MOST, limit * times) for times in HARM_TIMES])
            safe = np.array([usual + part * (limit - usual) for part in SAFE_AT])
        else:
            harm, safe, usual = fixed
        if t % PER_START == 0:
            known = clumping.time(t - 1, 0, None) if t else None
            starts.append((t, known, np.zeros((len(harm), total))))
        step = np.array([_log_e(now, (guess, usual), line) for guess in harm])
        for _, _, sums in starts:
            sums += step
        for i, guess in enumerate(safe):
            safes[i] += _log_e(now, (guess, usual), line)
        users, whole = clumping.users(t), clumping.time(t, 0, None)
        parts = [np.full((1, total), -math.log(len(starts) + 1))]
        for k, (start, known, sums) in enumerate(starts):
            phi = np.maximum(users, clumping.time(t, start, known) if k else whole)
            share = math.log((k + 1) * (k + 2) * len(sums))
            parts.append(sums / phi - share)
        out[0, :, t] = _log_sum(np.concatenate(parts))
        out[1, :, t] = _log_sum(safes / np.maximum(users, whole)) - math.log(len(safes))
    return out[0], out[1]


def itself(runs: Runs) -> Floats:
    """Return log evidence that the stable version differs from itself, [run, tick]: the stronger
    of both ways round."""
    n, k = runs.requests[1], runs.bad[Metric.P95][1]
    both = []
    for one in range(2):
        halves = [(x[:, :, one::2], x[:, :, 1 - one :: 2]) for x in (n, k)]
        half = Runs(halves[0], {Metric.P95: halves[1]}, runs.own)
        both.append(evidence(half, Metric.P95)[0])
    return np.asarray(np.maximum(*both))


def agreement(runs: Runs, metric: Metric, rule: Rule | None = None) -> float:
    """Return the largest relative difference to the code that judges real rollouts."""
    harm, safe = evidence(runs, metric, rule)
    largest = 0.0
    for i in range(len(harm)):
        one = Evidence.begin(rule or runs.rules[i], 0.0, buckets=runs.requests[0].shape[2])
        for t in range(harm.shape[1]):
            canary, stable = (
                (n[i, t].tolist(), k[i, t].tolist())
                for n, k in zip(runs.requests, runs.bad[metric], strict=True)
            )
            one.observe(t * TICK_S, canary, stable)
            for ours, theirs in ((one.log_harm(), harm[i, t]), (one.log_safe(), safe[i, t])):
                largest = max(largest, abs(ours - theirs) / max(1.0, abs(ours)))
    return largest
