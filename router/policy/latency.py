"""How far away a cluster is and how long its models take, learned from observations.

Input: round-trip times from `probe`, times to the first byte from `proxy`, each with the moment of
the observation. Output: milliseconds, read by `pick` through `lanes`.
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
# Nearer than this, two estimates of a round trip are the same: what noise moves is not followed.
STEADY_MS = 10.0
STEADY_SHARE = 0.25
_DRIFT = 0.05
_FAST, _SLOW = 0.15, 0.04  # the least weight of one observation
_MANY = 25  # observations, from where on each has the least
_APART = 2.0  # so many times apart, and the fast one counts
_CLIP = 8.0  # a single observation counts as at most so many times what was expected
_FADES_AFTER_S = 5.0


@dataclass(slots=True)
class RoundTrip:
    """The round-trip time to a cluster.

    Noise only adds, so the fast estimate is the least of the last few probes. The slow one, by
    which clusters are ranked, creeps after it, and jumps when the two are apart by more than noise:
    two clusters whose distances differ by less do not take turns.
    """

    samples_ms: deque[float] = field(default_factory=lambda: deque(maxlen=5))
    ms: float | None = None  # the estimate; None before the first probe

    def observe(self, rtt_ms: float) -> None:
        """Take in one probe."""
        self.samples_ms.append(rtt_ms)
        fast = min(self.samples_ms)
        if self.ms is None or abs(fast - self.ms) > max(STEADY_MS, STEADY_SHARE * fast):
            self.ms = fast
        else:
            self.ms += _DRIFT * (fast - self.ms)


@dataclass(slots=True)
class Average:
    """A moving average in two speeds, in milliseconds.

    The slow one ranks; where the fast one is far from it, something has changed, and it counts.
    Without news the estimate fades back to what was believed before, so that a cluster that was
    slow once is tried again.
    """

    fast: float = 0.0
    slow: float = 0.0
    square: float = 0.0
    count: int = 0
    at_s: float = 0.0

    def observe(self, value: float, now_s: float) -> float:
        """Take in one observation; one that is far off counts less than it says. Return what to
        expect now."""
        if value < 0.0:
            value = 0.0
        self.at_s = now_s
        self.count = count = self.count + 1
        if count > _MANY:
            quick, weight = _FAST, _SLOW
        elif count == 1:
            self.fast = self.slow = value
            self.square = value * value
            return value
        else:
            quick, weight = max(1.0 / count, _FAST), max(1.0 / count, _SLOW)
        fast, slow, square = self.fast, self.slow, self.square
        most = _CLIP * fast + 1.0
        self.fast = fast = fast + quick * ((value if value < most else most) - fast)
        most = _CLIP * slow + 1.0
        if value > most:
            value = most
        self.slow = slow = slow + weight * (value - slow)
        self.square = square + weight * (value * value - square)
        return slow if slow <= _APART * fast and fast <= _APART * slow else fast

    def expected(self, prior: float, now_s: float) -> float:
        """Return what to expect now; `prior` is what to expect of one that was never seen."""
        if not self.count:
            return prior
        fast, slow = self.fast, self.slow
        seen = slow if slow <= _APART * fast and fast <= _APART * slow else fast
        idle_s = now_s - self.at_s - _FADES_AFTER_S
        if idle_s <= 0.0:
            return seen
        return float(prior + (seen - prior) * 0.5 ** (idle_s / _FADES_AFTER_S))

    @property
    def unevenness(self) -> float:
        """Return the mean of the squares by the square of the mean: 1 = all are the same."""
        return max(1.0, self.square / (self.slow * self.slow)) if self.slow > 1e-3 else 1.0

    def forget(self) -> None:
        """Begin anew."""
        self.fast = self.slow = self.square = 0.0
        self.count = 0


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
