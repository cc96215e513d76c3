"""Time as an argument: the only module that reads the machine's clocks.

Input: the operating system. Output: Clock, handed down by keyword; tests hand down ManualClock.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Two views of time: monotonic seconds for durations, UTC for people and for leases."""

    def monotonic_s(self) -> float:
        """Return seconds from an arbitrary start; never goes back."""
        ...

    def utc(self) -> datetime:
        """Return the current time in UTC."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic_s = staticmethod(time.monotonic)  # asked several times a request

    def utc(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is told to advance."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0

    def __repr__(self) -> str:
        return f"ManualClock(+{self._elapsed_s:.3f}s)"

    def advance(self, seconds: float) -> None:
        """Move both views forward."""
        self._elapsed_s += seconds

    def monotonic_s(self) -> float:
        """Return the seconds advanced so far."""
        return self._elapsed_s

    def utc(self) -> datetime:
        """Return start plus the seconds advanced so far."""
        return self._start + timedelta(seconds=self._elapsed_s)
