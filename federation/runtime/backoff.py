"""How long to wait before the next try.

Input: the number of failures so far and a dice. Output: seconds. Full jitter, after Marc Brooker,
"Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
"""

from dataclasses import dataclass
from typing import Protocol


class Dice(Protocol):
    """Chance as an argument: `random.Random` fits, and so does a test's list of numbers."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter between `first_s` and `cap_s`."""

    first_s: float = 0.2
    cap_s: float = 10.0

    def delay_s(self, failures: int, dice: Dice) -> float:
        """Return the wait after the `failures`-th failure in a row (from 1)."""
        ceiling = min(self.cap_s, self.first_s * 2.0 ** min(max(failures - 1, 0), 30))
        return ceiling * (0.25 + 0.75 * dice.random())
