"""When to look at which object: soon after something happened, later and later while it fails.

Input: what happened to objects, each with the time in monotonic seconds. Output: which are due.
Whatever happens, two looks at one object begin at least `gap_s` apart.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from federation.runtime.backoff import Backoff, Dice

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait. Seconds. `poll_s` is between two looks at all that the control plane has;
    waits are spread by up to a fifth so that several bridges do not ask in step."""

    gap_s: float = 1.0
    failed: Backoff = field(default_factory=lambda: Backoff(first_s=2.0, cap_s=60.0))
    poll_s: float = 10.0
    silent: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, cap_s=15.0))
    spread: float = 0.2

    def next_poll_s(self, failures: int, dice: Dice) -> float:
        """Return the wait before the next poll, after so many failures in a row."""
        if failures:
            return max(self.gap_s, self.silent.delay_s(failures, dice))
        return self.poll_s * (1.0 + self.spread * dice.random())


@dataclass(slots=True)
class _Turn:
    due_s: float = math.inf
    looked_s: float = -math.inf
    failures: int = 0


class Turns(Generic[K]):
    """Whose turn it is."""

    def __init__(self, patience: Patience, dice: Dice) -> None:
        self._patience = patience
        self._dice = dice
        self._turns: dict[K, _Turn] = {}

    def __repr__(self) -> str:
        failing = sum(1 for turn in self._turns.values() if turn.failures)
        return f"Turns(objects={len(self._turns)}, failing={failing})"

    @property
    def failing(self) -> int:
        """Return how many objects failed when they were looked at last."""
        return sum(1 for turn in self._turns.values() if turn.failures)

    def changed(self, key: K, now: float) -> None:
        """Note that somebody changed an object: earlier failures no longer count."""
        turn = self._turns.setdefault(key, _Turn())
        turn.failures = 0
        turn.due_s = self._soon(turn, now)

    def nudged(self, key: K, now: float) -> None:
        """Note that there may be something to do; one that fails waits on."""
        turn = self._turns.setdefault(key, _Turn())
        if not turn.failures:
            turn.due_s = min(turn.due_s, self._soon(turn, now))

    def began(self, key: K, now: float) -> None:
        """Note that an object is being looked at."""
        turn = self._turns.setdefault(key, _Turn())
        turn.looked_s, turn.due_s = now, math.inf

    def succeeded(self, key: K) -> None:
        """Note that an object is as it shall be, or that all was done for it that can be."""
        if key in self._turns:
            self._turns[key].failures = 0

    def failed(self, key: K, now: float, *, retry_after_s: float = 0.0) -> None:
        """Note that a call failed; it is tried again later."""
        if (turn := self._turns.get(key)) is None:
            return
        turn.failures += 1
        wait_s = self._patience.failed.delay_s(turn.failures, self._dice)
        asked_s = retry_after_s * (1.0 + self._patience.spread * self._dice.random())
        turn.due_s = max(now + wait_s, now + asked_s, self._soon(turn, now))

    def forget(self, key: K) -> None:
        """Note that there is no such object any more."""
        self._turns.pop(key, None)

    def due(self, now: float) -> list[K]:
        """Return all whose time has come, the longest waiting first."""
        found = [(turn.due_s, key) for key, turn in self._turns.items() if turn.due_s <= now]
        return [key for _, key in sorted(found, key=lambda each: each[0])]

    def next_s(self) -> float:
        """Return when the next one is due; infinite if none is."""
        return min((turn.due_s for turn in self._turns.values()), default=math.inf)

    def _soon(self, turn: _Turn, now: float) -> float:
        return max(now, turn.looked_s + self._patience.gap_s)
