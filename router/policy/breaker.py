"""Whether a cluster gets requests at all, learned from its answers and from probes.

Input: results of requests (`proxy`) and of probes (`probe`), each with its moment. Output: a state,
read by `pick` through `signals`. A late result of a request that was sent before the state changed
changes nothing.
"""

from collections import deque
from enum import StrEnum

from federation.contract.errors import InvalidTransition

FAILURES_TO_TRIP = 3
PROBES_TO_TRIP = 2
FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 30.0
JITTER = 0.3  # a wait is up to so much longer, another for each router and each time
FORGIVEN_AFTER_S = 60.0  # closed for so long, and the next wait is the first one again


class BreakerState(StrEnum):
    """Is traffic let through?"""

    CLOSED = "closed"  # traffic flows
    OPEN = "open"  # ejected: picked only when every candidate is
    HALF_OPEN = "half-open"  # one request at a time may show that it works again


class BreakerEvent(StrEnum):
    """What moves the state."""

    TRIPPED = "tripped"  # too many failures in a row
    BACKOFF_ENDED = "backoff ended"  # reachable all the while, and it had time to recover
    REACHABLE_AGAIN = "reachable again"  # the first good probe after bad ones
    TRIAL_SUCCEEDED = "trial succeeded"
    TRIAL_FAILED = "trial failed"


TRANSITIONS: dict[tuple[BreakerState, BreakerEvent], BreakerState] = {
    (BreakerState.CLOSED, BreakerEvent.TRIPPED): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.BACKOFF_ENDED): BreakerState.HALF_OPEN,
    (BreakerState.OPEN, BreakerEvent.REACHABLE_AGAIN): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.TRIAL_SUCCEEDED): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, BreakerEvent.TRIAL_FAILED): BreakerState.OPEN,
}


class Breaker:
    """The breaker of one cluster."""

    def __init__(self) -> None:
        self.state = BreakerState.CLOSED
        self.reason = ""  # why it is not closed, in words
        self.hard = False  # nothing answers there at all
        self.seed = 0
        self._failures = 0
        self._probe_failures = 0
        self._opened_at_s = 0.0
        self._closed_at_s = float("-inf")
        self._backoff_s = FIRST_BACKOFF_S
        self._trials = 0  # numbers given so far
        self._trial = 0  # the one that is running
        self._story: deque[str] = deque(maxlen=8)

    def __repr__(self) -> str:
        why = f", {self.reason!r}" if self.reason else ""
        return f"Breaker({self.state}{why}, failures={self._failures}, trial={self._trial})"

    @property
    def reachable(self) -> bool:
        """Whether the last probe was good; True before the first one."""
        return self._probe_failures == 0

    def look(self, now_s: float) -> BreakerState:
        """Return the state at this moment."""
        if self.state is BreakerState.OPEN and now_s >= self.ends_s and self.reachable:
            self._move(BreakerEvent.BACKOFF_ENDED)
        return self.state

    @property
    def ends_s(self) -> float:
        """When it may be tried again, if it is open. Routers do not all do so at once."""
        dice = ((self._trials + 1) * 0x9E3779B1 ^ self.seed * 0x85EBCA6B) % 65536 / 65536
        return self._opened_at_s + self._backoff_s * (1.0 + JITTER * dice)

    @property
    def trial_running(self) -> bool:
        """Whether the one request of HALF_OPEN is on its way."""
        return self.state is BreakerState.HALF_OPEN and self._trial != 0

    def begin(self, now_s: float) -> int:
        """A request is sent; return the number of the trial that it is, 0 for an ordinary one.

        The end of the request must be told with this number.
        """
        if self.look(now_s) is not BreakerState.HALF_OPEN or self._trial:
            return 0
        self._trials += 1
        self._trial = self._trials
        return self._trial

    def abandoned(self, trial: int) -> None:
        """A request ended without showing anything, for example because its client left."""
        if self._is_the(trial):
            self._trial = 0

    def succeeded(self, trial: int, now_s: float) -> None:
        """A request was answered."""
        if self._is_the(trial):
            self._move(BreakerEvent.TRIAL_SUCCEEDED)
            self.reason, self._trial, self._closed_at_s, self.hard = "", 0, now_s, False
        if self.state is BreakerState.CLOSED:
            self._failures = 0

    def went_well(self) -> None:
        """An ordinary request was answered."""
        if self.state is BreakerState.CLOSED:
            self._failures = 0

    def failed(self, trial: int, reason: str, now_s: float, *, hard: bool = False) -> None:
        """A request failed in a way that is the cluster's fault; `hard`: nothing answered."""
        if self._is_the(trial):
            self._open(BreakerEvent.TRIAL_FAILED, reason, now_s, hard=hard)
        elif self.state is BreakerState.CLOSED:
            self._failures += 1
            if self._failures >= FAILURES_TO_TRIP:
                self._open(BreakerEvent.TRIPPED, reason, now_s, hard=hard)

    def trip(self, reason: str, now_s: float) -> None:
        """Eject it for what was seen of many requests."""
        if self.state is BreakerState.CLOSED:
            self._open(BreakerEvent.TRIPPED, reason, now_s)

    def probed(self, problem: str, now_s: float) -> None:
        """A probe came back; an empty `problem` means that it was good."""
        if not problem:
            was_unreachable, self._probe_failures = not self.reachable, 0
            if self.state is BreakerState.OPEN and was_unreachable:
                self._move(BreakerEvent.REACHABLE_AGAIN)
            return
        self._probe_failures += 1
        if self._probe_failures < PROBES_TO_TRIP:
            return
        if self.state is BreakerState.CLOSED:
            self._open(BreakerEvent.TRIPPED, problem, now_s, hard=True)
        elif self.state is BreakerState.HALF_OPEN:
            self._open(BreakerEvent.TRIAL_FAILED, problem, now_s, hard=True)

    def _is_the(self, trial: int) -> bool:
        return trial != 0 and trial == self._trial and self.state is BreakerState.HALF_OPEN

    def _open(self, event: BreakerEvent, reason: str, now_s: float, *, hard: bool = False) -> None:
        """What opens again soon after it closed, or fails its trial, waits twice as long."""
        again = event is BreakerEvent.TRIAL_FAILED
        if event is BreakerEvent.TRIPPED:
            again = now_s < self._closed_at_s + FORGIVEN_AFTER_S
        self._backoff_s = min(self._backoff_s * 2, LAST_BACKOFF_S) if again else FIRST_BACKOFF_S
        self._move(event)
        self.reason, self._opened_at_s, self._failures, self._trial = reason, now_s, 0, 0
        self.hard = hard

    def _move(self, event: BreakerEvent) -> None:
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            raise InvalidTransition("The breaker", self.state, event, tuple(self._story))
        self._story.append(f"{self.state} --{event}--> {after}")
        self.state = after
