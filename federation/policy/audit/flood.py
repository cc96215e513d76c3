"""How many denials are written down, so that nobody can fill the disk by being refused. Pure.

Input: each denial as it happens, and the time. Output: entries to write: the first of a kind at
once, its repetitions as one number when their minute is over. A minute has a budget of kinds; what
exceeds it is told in one entry more.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from federation.policy.audit.events import AccessDenied, Origin

WINDOW = timedelta(minutes=1)
BUDGET = 10  # kinds in a window: at most twice as many entries and one, some 15 KiB a minute
REST_REASON = "too-many-denials"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A denial to write down, and where it came from."""

    event: AccessDenied
    origin: Origin


class Flood:
    """Counts the denials of one window; a new one opens with the first denial after its end.

    Denials are alike if source address and reason are equal.
    """

    def __init__(self, *, window: timedelta = WINDOW, budget: int = BUDGET) -> None:
        self._window = window
        self._budget = budget
        self._ends_at: datetime | None = None
        self._alike: dict[tuple[str, str], Denial] = {}  # count: of repetitions not yet told
        self._rest = 0

    def __repr__(self) -> str:
        return f"Flood(kinds={len(self._alike)}, rest={self._rest}, ends_at={self._ends_at})"

    @property
    def ends_at(self) -> datetime | None:
        """When `ended` has something to tell; None while nothing was counted."""
        return self._ends_at if self._rest or self._repeated() else None

    def add(self, denial: Denial, now: datetime) -> list[Denial]:
        """Count one denial; returns what to write at once."""
        told = self.ended(now)
        if self._ends_at is None:
            self._ends_at = now + self._window
        key = (denial.origin.source, denial.event.reason)
        if earlier := self._alike.get(key):
            self._alike[key] = _counted(earlier, earlier.event.count + denial.event.count)
        elif len(self._alike) < self._budget:
            self._alike[key] = _counted(denial, 0)
            told.append(denial)
        else:
            self._rest += 1
        return told

    def ended(self, now: datetime) -> list[Denial]:
        """Return what was counted, if the window is over by now."""
        if self._ends_at is None or now < self._ends_at:
            return []
        return self.close()

    def close(self) -> list[Denial]:
        """End the window now; returns what was counted but not told."""
        told = self._repeated()
        if self._rest:
            told.append(_rest(self._rest))
        self._ends_at, self._alike, self._rest = None, {}, 0
        return told

    def _repeated(self) -> list[Denial]:
        return [denial for denial in self._alike.values() if denial.event.count]


def _counted(denial: Denial, count: int) -> Denial:
    return replace(denial, event=replace(denial.event, count=count))


def _rest(count: int) -> Denial:
    event = AccessDenied(
        actor="anonymous",
        target="",
        reason=REST_REASON,
        message="more denials than are written down one by one.",
        count=count,
    )
    return Denial(event=event, origin=Origin())
