"""How fast transfers may be while this cluster serves: inference goes first.

Input: how late the agent's event loop was lately, and whether requests were served, the time.
Output: a rate for transfers. If the loop gets its turn late, so do the engine and every request;
then transfers step back, and come forward again slowly: additive increase, multiplicative decrease
(Chiu and Jain, 1989), as TCP shares a link.
"""

from dataclasses import dataclass

UNBOUNDED = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class CourtesyLimits:
    """Rates in bytes/s. A loop that is late by more than `late_s` is too late. Transfers never go
    below `least`; after `idle_s` without a request they are free."""

    late_s: float = 0.002
    least: float = 8e6
    first: float = 24e6
    step: float = 1e6
    shrink: float = 0.7
    idle_s: float = 5.0


class Courtesy:
    """Decides at each look, about ten times a second."""

    def __init__(self, limits: CourtesyLimits | None = None) -> None:
        self.limits = limits or CourtesyLimits()
        self.rate = UNBOUNDED
        self._served_s = float("-inf")

    def __repr__(self) -> str:
        return f"Courtesy({self.rate:.0f} bytes/s)"

    def look(self, late_s: float, *, served: bool, moving: bool, now: float) -> float:
        """Return the rate from now on.

        `late_s`: the worst lateness since the last look; `served`: whether requests were in flight;
        `moving`: whether bytes were moved, without which nothing is learned.
        """
        limits = self.limits
        if served:
            self._served_s = now
        if now - self._served_s > limits.idle_s:
            self.rate = UNBOUNDED
        elif self.rate == UNBOUNDED:
            self.rate = limits.first
        elif moving and late_s > limits.late_s:
            self.rate = max(limits.least, self.rate * limits.shrink)
        elif moving:
            self.rate += limits.step
        return self.rate
