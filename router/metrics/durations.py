"""A histogram that costs little to add to: no lock, since one thread adds.

Input: durations as they are observed, in seconds. Output: the histogram's family for a scrape.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import HistogramMetricFamily, Metric


class Series:
    """The counts of one label value."""

    __slots__ = ("bounds", "counts", "sum_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def __repr__(self) -> str:
        return f"Series({sum(self.counts)} observed)"

    def observe(self, seconds: float) -> None:
        """Add one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_s += seconds


class Durations:
    """Counts durations by bucket; apart for each value of `label`, if there is one."""

    def __init__(self, name: str, help: str, buckets: Sequence[float], *, label: str = "") -> None:
        self._name = name
        self._help = help
        self._bounds = tuple(buckets)
        self._label = label
        self._series: dict[str, Series] = {}
        if not label:
            self.series("")

    def __repr__(self) -> str:
        observed = sum(sum(one.counts) for one in self._series.values())
        return f"Durations({self._name}, {observed} observed)"

    def observe(self, seconds: float, value: str = "") -> None:
        """Add one; `value` is the label's."""
        (self._series.get(value) or self.series(value)).observe(seconds)

    def series(self, value: str) -> Series:
        """Return the counts of one label value."""
        found = self._series.get(value)
        if found is None:
            found = self._series[value] = Series(self._bounds)
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield the family."""
        labels = [self._label] if self._label else []
        family = HistogramMetricFamily(self._name, self._help, labels=labels)
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for value, one in self._series.items():
            upto = list(zip(bounds, map(float, accumulate(one.counts)), strict=True))
            family.add_metric([value] if self._label else [], upto, one.sum_s)
        yield family
