"""Latency as counts by index: index i holds (2^(i/16), 2^((i+1)/16)] ms, 2.2 % to either side.

Input: milliseconds, or counts by index. Output: counts by index, percentiles, shares. Merging is
adding counts, so it does not matter in which order or over how many routers they are added. The
scale is number 4 of OpenTelemetry's exponential histograms (their data model, "exponential
histogram"). Inside an index requests are taken to be spread evenly in the logarithm of time.
"""

import math
from collections.abc import Mapping, MutableMapping

PER_OCTAVE = 16
LEAST, MOST = -320, 480  # a nanosecond; twelve days

Counts = Mapping[int, int]


def index_of(ms: float) -> int:
    """Return the index that holds a latency; anything outside the range lands at its end."""
    if ms <= 0:
        return LEAST
    return min(MOST, max(LEAST, math.ceil(math.log2(ms) * PER_OCTAVE) - 1))


def add(total: MutableMapping[int, int], part: Counts) -> None:
    """Add counts to a total, in place."""
    for index, count in part.items():
        total[index] = total.get(index, 0) + count


def merged(*parts: Counts) -> dict[int, int]:
    """Return the sum of histograms."""
    total: dict[int, int] = {}
    for part in parts:
        add(total, part)
    return total


def share_slower(counts: Counts, ms: float) -> float:
    """Return the share of requests that took longer than `ms`; 0 of none."""
    total = sum(counts.values())
    if not total:
        return 0.0
    at = math.log2(ms) * PER_OCTAVE
    return sum(c * min(1.0, max(0.0, i + 1 - at)) for i, c in counts.items()) / total


def quantile(counts: Counts, q: float) -> float | None:
    """Return the latency in ms below which a share `q` of the requests lies; None of none."""
    need, seen = q * sum(counts.values()), 0.0
    for index in sorted(counts):
        here = counts[index]
        if here and seen + here >= need:
            return float(2 ** ((index + (need - seen) / here) / PER_OCTAVE))
        seen += here
    return None
