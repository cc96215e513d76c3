"""Whether a request that waits for its answer is sent to a second cluster too, and to which.

Input: how long answers of a model version took lately, the age of the request, its clusters as
`pick` sees them, how many requests this router had. Output: when to look, then a cluster to ask, or
the reason why not.

Hedges cut the tail that single slow answers make. They must never feed an overload, so each costs a
token of a budget, goes to a free place of a cluster, and none is sent in trouble that many requests
share: while most clusters look sick, others are loaded, or retries have used up their own budget.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from federation.contract.types import ModelProtocol
from federation.runtime.backoff import Dice
from router.policy.breaker import BreakerState
from router.policy.pick import capped
from router.policy.retry import Limits
from router.policy.shortlist import Option, Shortlist
from router.policy.table import Resolved

SHARE = 0.02  # of the requests, at most, are hedged
BURST = 25.0  # at most so many at once after a quiet time
QUANTILE = 0.95  # of the times to an answer: who waits longer is late
VERY = 0.98  # likewise: very late, and asked for first where hedges are scarce
SCARCE = BURST / 2  # when fewer are left
ENOUGH = 100  # answers, before it is known
LEAST_S = 0.025  # nothing is late sooner: noise, and the way to another region is as long
WINDOW_S = 30.0  # answers of one or two of these count; longer where they are few
RENEWED_S = 1.0
MOST_LOADED = 0.7  # of the places of the other clusters may be taken
FURTHER = 2.0  # another region is asked rather, if it takes at most so many times as long
NEVER_S = float("inf")
_CLOSED = BreakerState.CLOSED
_BEYOND = 1 << 30  # the index of what was given up before it was answered


class NotSent(StrEnum):
    """Why a late request was not sent to a second cluster, for the counters."""

    BUDGET = "budget"  # enough were
    RETRIES = "retries"  # too many requests fail
    PANIC = "panic"  # most clusters look sick
    ALONE = "alone"  # no other cluster may be asked
    LOAD = "load"  # the others have no free place, or too few
    DEADLINE = "deadline"  # no other could answer in time


class Outcome(StrEnum):
    """What became of a hedge."""

    WON = "won"  # the second cluster answered first
    LOST = "lost"
    BOTH_FAILED = "both_failed"
    LEFT = "left"  # the client went away before


@dataclass(slots=True, kw_only=True)
class Hedged:
    """A request that was sent to a second cluster `after_s`. `given_up`: one of the two attempts
    was, when the other was answered."""

    first: str
    second: str
    after_s: float
    outcome: Outcome = Outcome.LEFT
    given_up: bool = False


@dataclass(slots=True, kw_only=True)
class Late:
    """A request that waits for its answer: which cluster was asked, and when; which ones failed it
    before. `pace` is that of its model version."""

    asked: Option
    sent_s: float
    deadline_s: float
    pace: "Pace"
    failed: Collection[str] = ()


class Pace:
    """When an answer of one model version is late, and very late: after `after_s` and `very_s`,
    believed until `until_s`."""

    __slots__ = ("_newer", "_newer_s", "_older", "after_s", "outrun", "until_s", "very_s")

    def __init__(self) -> None:
        self.after_s = self.very_s = NEVER_S
        self.until_s = 0.0
        self.outrun = 0  # late ones that were given up, since a second cluster was faster
        self._older: Mapping[int, int] = {}
        self._newer: Mapping[int, int] = {}
        self._newer_s = 0.0

    def __repr__(self) -> str:
        return f"Pace({self.after_s * 1000:.1f} ms)"

    def renew(
        self,
        histograms: Iterable[Mapping[int, int]],
        upper_ms: Callable[[int], float],
        now_s: float,
    ) -> float:
        """Look at all that was ever answered, as counts by index of a bucket; `upper_ms` is where a
        bucket ends. Returns `after_s`."""
        seen = {_BEYOND: self.outrun}
        for histogram in histograms:
            for index, count in histogram.items():
                seen[index] = seen.get(index, 0) + count
        if any(seen.get(index, 0) < count for index, count in self._newer.items()):
            self._older = self._newer = seen  # it was counted anew
        lately = _since(self._older, seen)
        self.after_s, self.very_s = (_late_s(lately, q, upper_ms) for q in (QUANTILE, VERY))
        fresh = sum(_since(self._newer, seen).values())
        if now_s >= self._newer_s + WINDOW_S and fresh >= ENOUGH:
            self._older, self._newer, self._newer_s = self._newer, seen, now_s
        self.until_s = now_s + RENEWED_S
        return self.after_s


def _since(before: Mapping[int, int], now: Mapping[int, int]) -> dict[int, int]:
    return {index: count - before.get(index, 0) for index, count in now.items()}


def _late_s(counts: Mapping[int, int], quantile: float, upper_ms: Callable[[int], float]) -> float:
    left = total = sum(counts.values())
    if total < ENOUGH:
        return NEVER_S
    late_s = NEVER_S
    for index in sorted(counts):
        if index == _BEYOND:
            break  # later than all that were answered
        late_s = max(upper_ms(index) / 1000.0, LEAST_S)
        left -= counts[index]
        if left <= (1.0 - quantile) * total:
            break
    return late_s


NO_PACE = Pace()  # of what is not hedged
NO_PACE.until_s = NEVER_S


class Hedging:
    """What all hedges of a router share: their budget, and what is late by model version. `share`
    of the requests may be hedged, 0 = none; never those for the models in `never`."""

    def __init__(self, share: float = SHARE, never: Collection[str] = ()) -> None:
        self.share = share
        self._never = frozenset(never)
        self._paces: dict[tuple[str, int], Pace] = {}
        self._left = 0.0
        self._requests = 0

    def __repr__(self) -> str:
        return f"Hedging({self.share:.1%}, {self._left:.1f} left, {len(self._paces)} paces)"

    def pace(self, resolved: Resolved) -> Pace:
        """Return when answers of a model version are late; NO_PACE if its requests are not hedged.

        Text is not: its answers are long and dear. Nor is a model between two versions: what is
        compared there must not be cut short.
        """
        route = resolved.route
        if not self.share or route.canary is not None or route.name in self._never:
            return NO_PACE
        if route.protocol is not ModelProtocol.TENSOR:
            return NO_PACE
        key = (route.name, resolved.version)
        found = self._paces.get(key)
        if found is None:
            found = self._paces[key] = Pace()
        return found

    def retain(self, models: Collection[str]) -> None:
        """Forget models that are gone."""
        self._paces = {key: pace for key, pace in self._paces.items() if key[0] in models}

    def allows(self, requests: int) -> bool:
        """Return whether one more fits, after so many requests."""
        earned = self.share * (requests - self._requests)
        self._requests, self._left = requests, min(self._left + earned, BURST)
        return self._left >= 1.0

    @property
    def scarce(self) -> bool:
        """Whether few are left, so that very late requests come first."""
        return self._left < SCARCE

    def spend(self) -> None:
        """One is sent."""
        self._left -= 1.0


def may_be(limits: Limits, failed: int) -> bool:
    """Return whether a request may be at two clusters at once, after so many failed attempts."""
    return limits.may_hedge and not limits.unreplayable and failed + 2 <= limits.max_attempts


def second(
    short: Shortlist, late: Late, now_s: float, dice: Dice
) -> tuple[Option, float] | NotSent:
    """Return the cluster to ask besides the one that was asked, and in how many seconds.

    A far one is not asked before the request waited as long as that one will take: so it never
    takes more than twice as long as if that one had been asked at once.
    """
    if short.panic:
        return NotSent.PANIC
    out = {late.asked.cluster, *late.failed}
    others = [o for o in short.best if o.cluster not in out]
    free = [o for o in others if _is_free(o, now_s) and not capped(o, short, now_s, dice)]
    if not free:
        return NotSent.LOAD if others else NotSent.ALONE
    places = sum(o.lane.concurrency for o in others)
    taken = sum(min(o.lane.in_flight(now_s), o.lane.concurrency) for o in others)
    if taken > MOST_LOADED * places:
        return NotSent.LOAD
    scored = [(o.way_ms + o.lane.cost_ms(now_s), o) for o in free]
    least = min(score for score, _ in scored)
    far = [(s, o) for s, o in scored if o.region != late.asked.region and s <= FURTHER * least]
    chosen = min(far or scored, key=lambda pair: pair[0])[1]
    takes_s = (chosen.rtt_ms + chosen.lane.cost_ms(now_s)) / 1000.0
    wait_s = max(takes_s - (now_s - late.sent_s), 0.0)
    if now_s + wait_s + takes_s > late.deadline_s:
        return NotSent.DEADLINE
    return chosen, wait_s


def _is_free(option: Option, now_s: float) -> bool:
    lane = option.lane
    if lane.held_until_s > now_s or not lane.breaker.state is lane.place.breaker.state is _CLOSED:
        return False
    return lane.in_flight(now_s) + 1.0 <= lane.concurrency
