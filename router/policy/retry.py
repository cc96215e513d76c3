"""Whether a request that failed is sent again.

Input: what the attempts so far showed, the request's own limits, and the budget that all requests
share. Output: "" to try again, otherwise the reason in words why not.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from router.policy.signals import Ending

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """One attempt that did not answer; `version` is the one that it was sent to."""

    cluster: str
    ending: Ending
    reason: str
    version: int = 0
    status: int = 502  # it counts as an answer with this status


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request allows. `unreplayable` tells why it may be sent only once, or is empty;
    `may_hedge`, whether it may be at two clusters at the same time."""

    deadline_s: float
    unreplayable: str = ""
    max_attempts: int = MAX_ATTEMPTS
    may_hedge: bool = False


class RetryBudget:
    """Retries beyond a share of the requests of the last seconds are not sent.

    A retry that is answered costs nothing: the budget bounds what an outage multiplies, not what
    failing over saves. The floor lets the first requests after a quiet time fail over.
    """

    def __init__(self, *, share: float = 0.2, floor: int = 100, window_s: int = 10) -> None:
        self._share = share
        self._floor = floor
        self._window_s = window_s
        self._seconds: deque[list[int]] = deque()  # [second, requests, retries]
        self._last = [-1, 0, 0]  # of these
        self._before = 0  # requests of all seconds before it

    def __repr__(self) -> str:
        requests, retries = self._sums()
        return f"RetryBudget({retries} retries, {requests} requests in {self._window_s} s)"

    @property
    def requests(self) -> int:
        """How many requests of clients were ever counted."""
        return self._before + self._last[1]

    def request(self, now_s: float) -> None:
        """Count a request of a client."""
        last = self._last
        if last[0] != int(now_s):
            last = self._second(now_s)
        last[1] += 1

    def allows(self, now_s: float, *, hopeful: bool) -> bool:
        """Return whether one more retry fits; the floor is only for a retry with some hope."""
        self._second(now_s)
        requests, retries = self._sums()
        return retries + 1 <= self._share * requests + (self._floor if hopeful else 0)

    def is_calm(self, now_s: float) -> bool:
        """Return whether retries are within their share, the floor not counted."""
        self._second(now_s)
        requests, retries = self._sums()
        return retries <= self._share * requests

    def spend(self, now_s: float) -> None:
        """A retry is sent."""
        self._second(now_s)[2] += 1

    def refund(self, now_s: float) -> None:
        """A retry was answered."""
        self._second(now_s)
        for second in reversed(self._seconds):
            if second[2]:
                second[2] -= 1
                return

    def _second(self, now_s: float) -> list[int]:
        now = int(now_s)
        while self._seconds and self._seconds[0][0] <= now - self._window_s:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1][0] < now:
            self._before += self._last[1]
            self._last = [now, 0, 0]
            self._seconds.append(self._last)
        return self._last

    def _sums(self) -> tuple[int, int]:
        return sum(s[1] for s in self._seconds), sum(s[2] for s in self._seconds)


def why_not(failed: Sequence[Failed], limits: Limits, now_s: float) -> str:
    """Return why the request is not sent again, "" if it may be (the budget is asked apart)."""
    if failed and limits.unreplayable:
        return limits.unreplayable
    if len(failed) >= limits.max_attempts:
        return f"{len(failed)} attempts failed"
    if now_s >= limits.deadline_s:
        return "the deadline passed"
    return ""
