"""Deadlines of many calls with one timer.

Input: who is due when, and the time. Output: who is due now. One bucket for each 50 ms: what ends
before its deadline, as nearly everything does, costs one removal and leaves nothing behind.
"""

from typing import Generic, TypeVar

TICK_S = 0.05
NEVER = float("inf")  # seconds
T = TypeVar("T")


class Wheel(Generic[T]):
    """Times are seconds of one monotonic clock. Each one is due at most once at a time."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[T, None]] = {}
        self._of: dict[T, int] = {}

    def __repr__(self) -> str:
        return f"Wheel({len(self._of)} due, {len(self._buckets)} buckets)"

    def __len__(self) -> int:
        return len(self._of)

    def arm(self, one: T, at_s: float) -> None:
        """Let something be due at a time instead of at an earlier chosen one."""
        if one in self._of:
            self.disarm(one)
        number = int(at_s / TICK_S) + 1
        self._of[one] = number
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {one: None}
        else:
            bucket[one] = None

    def disarm(self, one: T) -> None:
        """Let something never be due."""
        number = self._of.pop(one, None)
        if number is None:
            return
        bucket = self._buckets[number]
        del bucket[one]
        if not bucket:
            del self._buckets[number]

    def due(self, now_s: float) -> list[T]:
        """Return what is due, the earliest first, and forget it."""
        now = int(now_s / TICK_S)
        found: list[T] = []
        for number in sorted(n for n in self._buckets if n <= now):
            for one in self._buckets.pop(number):
                del self._of[one]
                found.append(one)
        return found
