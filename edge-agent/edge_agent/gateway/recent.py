"""How busy each model version was lately: requests that ended in the last ten seconds.

Input: the gateway notes the end of every request that the engine ran. Output: how many a second,
and their median duration, for reports. Noting costs about a microsecond and the memory of a version
is bounded: durations are kept as counts in bins that are 9 % wide.
"""

import math
from collections import Counter, deque
from dataclasses import dataclass, field

from edge_agent.gateway.flights import Key

WINDOW_S = 10
_FLOOR_S = 1e-4  # what is shorter counts as this
_PER_OCTAVE = 8


@dataclass(frozen=True, slots=True)
class Figures:
    """`rate` in requests a second, `latency_ms` their median; 0 = there were none."""

    rate: float = 0.0
    latency_ms: float = 0.0


@dataclass(slots=True)
class _Second:
    """What ended within one second."""

    number: int
    bins: Counter[int] = field(default_factory=Counter)


class Recent:
    """The requests that ended lately, by version. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._seconds: dict[Key, deque[_Second]] = {}

    def __repr__(self) -> str:
        return f"Recent({len(self._seconds)} versions)"

    def ended(self, key: Key, now_s: float, duration_s: float) -> None:
        """Note a request that ended now."""
        seconds = self._seconds.setdefault(key, deque(maxlen=WINDOW_S + 1))
        number = int(now_s)
        if not seconds or seconds[-1].number != number:
            seconds.append(_Second(number))
        seconds[-1].bins[_bin(duration_s)] += 1

    def figures(self, key: Key, now_s: float) -> Figures:
        """Return the figures of a version: of the last ten seconds that are over, and of this one
        so far."""
        seconds = self._seconds.get(key)
        oldest = int(now_s) - WINDOW_S
        while seconds and seconds[0].number < oldest:
            seconds.popleft()
        if not seconds:
            self._seconds.pop(key, None)
            return Figures()
        bins: Counter[int] = Counter()
        for second in seconds:
            bins.update(second.bins)
        return Figures(bins.total() / (now_s - oldest), 1000 * _median(bins))


def _bin(duration_s: float) -> int:
    return int(_PER_OCTAVE * math.log2(max(duration_s, _FLOOR_S) / _FLOOR_S))


def _median(bins: Counter[int]) -> float:
    """Return the middle of the bin that holds the median, in seconds."""
    left = (bins.total() + 1) // 2
    for number in sorted(bins):
        left -= bins[number]
        if left <= 0:
            return float(_FLOOR_S * 2 ** ((number + 0.5) / _PER_OCTAVE))
    return 0.0
