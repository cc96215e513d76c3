"""How far away a cluster is and how long its models take, learned from observations.

Input: round-trip times from `probe`, times to the first byte from `proxy`, each with the moment of
the observation. Output: milliseconds, read by `pick` through `signals`.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from federation.contract.types import Location

EARTH_RADIUS_KM = 6371.0
# A line through measured round-trip times between cloud regions against their distance.
PRIOR_BASE_MS = 14.7
PRIOR_MS_PER_KM = 0.0168
PRIOR_UNKNOWN_MS = 100.0


@dataclass(slots=True)
class Ewma:
    """A moving average over time: old observations fade with `tau_s` at any request rate."""

    tau_s: float
    value: float = 0.0
    at_s: float | None = None

    def observe(self, value: float, now_s: float) -> None:
        """Take in one observation."""
        if self.at_s is None:
            self.value, self.at_s = value, now_s
            return
        weight = 1.0 - math.exp(-max(now_s - self.at_s, 1e-3) / self.tau_s)
        self.value += weight * (value - self.value)
        self.at_s = max(self.at_s, now_s)


@dataclass(slots=True)
class RoundTrip:
    """The round-trip time to a cluster: the least of the last few probes, for noise only adds."""

    samples_ms: deque[float] = field(default_factory=lambda: deque(maxlen=5))

    def observe(self, rtt_ms: float) -> None:
        """Take in one probe."""
        self.samples_ms.append(rtt_ms)

    @property
    def ms(self) -> float | None:
        """The estimate, or None before the first probe."""
        return min(self.samples_ms, default=None)


@dataclass(slots=True)
class ServiceTime:
    """The time that a model version takes at a cluster for each request in flight there.

    A time to first byte is divided by the requests that were in flight, so that an engine that
    works on many at once is not taken for a slow one. Of a fast and a slow average the larger
    counts: trouble shows at once and is forgiven slowly. Without news the estimate fades, so that a
    cluster that was slow once is tried again.
    """

    fast: Ewma = field(default_factory=lambda: Ewma(tau_s=1.0))
    slow: Ewma = field(default_factory=lambda: Ewma(tau_s=10.0))
    fades_after_s: float = 5.0

    def observe(self, first_byte_ms: float, in_flight: int, now_s: float) -> None:
        """Take in one answer; `in_flight` counts this request too."""
        share = max(first_byte_ms, 0.0) / max(in_flight, 1)
        self.fast.observe(share, now_s)
        self.slow.observe(share, now_s)

    def expected_ms(self, now_s: float) -> float:
        """Return the time per request in flight; 0 before the first observation."""
        if self.slow.at_s is None:
            return 0.0
        idle_s = max(now_s - self.slow.at_s - self.fades_after_s, 0.0)
        return float(max(self.fast.value, self.slow.value) * 0.5 ** (idle_s / self.fades_after_s))


def great_circle_km(a: Location, b: Location) -> float:
    """Return the distance between two places along the surface of the Earth."""
    lat1, lat2 = math.radians(a.latitude), math.radians(b.latitude)
    half_lat = (lat2 - lat1) / 2
    half_lon = math.radians(b.longitude - a.longitude) / 2
    h = math.sin(half_lat) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(max(h, 0.0), 1.0)))


def prior_ms(origin: Location | None, place: Location | None) -> float:
    """Return a guess of the round-trip time before it was ever measured."""
    if origin is None or place is None:
        return PRIOR_UNKNOWN_MS
    return PRIOR_BASE_MS + PRIOR_MS_PER_KM * great_circle_km(origin, place)
