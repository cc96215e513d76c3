"""How many requests are on their way through the gateway, per model version.

Input: the gateway enters every request here. Output: the counts, for `x-fed-load`, for the ceiling
and for the agent's drain. One context manager is the only way in, and leaving it the only way out:
an error, a disconnect or a cancellation cannot leak a count.
"""

import asyncio
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

Key = tuple[str, int]  # (model, version)


class Flights:
    """Counts of requests in flight."""

    def __init__(self) -> None:
        self.begun = 0  # requests that were ever in flight
        self._counts: dict[Key, int] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        held = ", ".join(f"{m}@{v}: {count}" for (m, v), count in sorted(self._counts.items()))
        return f"Flights({held})"

    def count(self, key: Key) -> int:
        """Return how many requests for a version are in flight."""
        return self._counts.get(key, 0)

    def counts(self) -> dict[Key, int]:
        """Return all counts above zero."""
        return dict(self._counts)

    def enter(self, key: Key) -> "Flight":
        """Return a context: while it lasts, one request is counted."""
        return Flight(key, self._begin, self._end)

    def _begin(self, key: Key) -> None:
        self.begun += 1
        self._counts[key] = self._counts.get(key, 0) + 1
        self._idle.clear()

    def _end(self, key: Key) -> None:
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]
            if not self._counts:
                self._idle.set()

    async def landed(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; return whether that happened in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


class Flight:
    """One request in flight, as a context: no generator, for that costs more than the counting."""

    __slots__ = ("_begin", "_end", "_key")

    def __init__(self, key: Key, begin: Callable[[Key], None], end: Callable[[Key], None]) -> None:
        self._key = key
        self._begin = begin
        self._end = end

    def __enter__(self) -> None:
        self._begin(self._key)

    def __exit__(self, *_: object) -> None:
        self._end(self._key)


class FlightsCollector(Collector):
    """Shows the counts at /metrics."""

    def __init__(self, flights: Flights) -> None:
        self._flights = flights

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield one gauge with a sample for each version that has requests in flight."""
        gauge = GaugeMetricFamily(
            "fed_gateway_in_flight", "Requests in flight.", labels=["model", "version"]
        )
        for (model, version), count in sorted(self._flights.counts().items()):
            gauge.add_metric([model, str(version)], count)
        yield gauge
