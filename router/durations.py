"""A histogram that costs little to add to: no lock, since one thread adds.

Input: durations as they are observed, in seconds. Output: the histogram's family for a scrape.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import HistogramMetricFamily, Metric


class Durations:
    """Counts durations by bucket; apart for each value of `label`, if there is one."""

    def __init__(self, name: str, help: str, buckets: Sequence[float], *, label: str = "") -> None:
        self._name = name
        self._help = help
        self._bounds = tuple(buckets)
        self._label = label
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        if not label:
            self._begin("")

    def __repr__(self) -> str:
        return f"Durations({self._name}, {sum(map(sum, self._counts.values()))} observed)"

    def observe(self, seconds: float, value: str = "") -> None:
        """Add one; `value` is the label's."""
        counts = self._counts.get(value)
        if counts is None:
            counts = self._begin(value)
        counts[bisect_left(self._bounds, seconds)] += 1
        self._sums[value] += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the family."""
        labels = [self._label] if self._label else []
        family = HistogramMetricFamily(self._name, self._help, labels=labels)
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for value, counts in self._counts.items():
            upto = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            family.add_metric([value] if self._label else [], upto, self._sums[value])
        yield family

    def _begin(self, value: str) -> list[int]:
        self._sums[value] = 0.0
        counts = self._counts[value] = [0] * (len(self._bounds) + 1)
        return counts
