"""How fast bytes move, measured while some are on their way.

Input: running counts of bytes or finished transfers, the time in monotonic seconds. Output: bytes a
second, at best. The best counts, since a link that others share too says little about who is slow.
"""

from collections import deque
from dataclasses import dataclass, field

WINDOW_S = 2.0  # shorter ones would take chance for a difference
_SPAN_S = 1.0
_SPANS = 16


@dataclass(slots=True)
class Pace:
    """The best rate of any window, of what is counted all the time; 0 until so many `windows` are
    over."""

    windows: int = 1
    _best: float = 0.0
    _at_s: float | None = None
    _count: int = 0
    _active: bool = False
    _window_s: float = 0.0
    _window_bytes: int = 0

    @property
    def rate(self) -> float:
        """Bytes a second; 0 = not known."""
        return self._best if self.windows <= 0 else 0.0

    def note(self, count: int, now: float, *, active: bool) -> None:
        """Note that `count` bytes have moved so far, and whether more are on their way now.

        Time in which nothing was on its way does not count.
        """
        if self._active and self._at_s is not None:
            self._window_s += now - self._at_s
            self._window_bytes += count - self._count
            if self._window_s >= WINDOW_S:
                self._best = max(self._best, self._window_bytes / self._window_s)
                self.windows -= 1
                self._window_s, self._window_bytes = 0.0, 0
        self._at_s, self._count, self._active = now, count, active


@dataclass(slots=True)
class SpanPace:
    """The best rate of late, of transfers side by side that are noted when each has ended."""

    _until_s: float = float("-inf")
    _seconds: float = 0.0
    _bytes: int = 0
    _rates: deque[float] = field(default_factory=lambda: deque(maxlen=_SPANS))

    @property
    def rate(self) -> float:
        """Bytes a second, of all transfers together; 0 = not known."""
        return max(self._rates, default=0.0)

    def note(self, count: int, seconds: float, now: float) -> None:
        """Note that `count` bytes moved within the last so many seconds."""
        self._seconds += max(0.0, now - max(self._until_s, now - seconds))
        self._bytes += count
        self._until_s = now
        if self._seconds >= _SPAN_S:
            self._rates.append(self._bytes / self._seconds)
            self._seconds, self._bytes = 0.0, 0
