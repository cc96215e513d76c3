"""Whether a late request is sent to a second cluster: `policy.hedging` asked, and told.

Input: requests that wait for an answer. Output: when to look at them, the cluster to ask, counts.
`race` and `quick` act on it.
"""

from router.counting import upper_ms
from router.metrics.requests import Metrics
from router.policy import hedging
from router.policy.hedging import NEVER_S, Hedged, Late, NotSent, Outcome, Pace
from router.policy.pick import bring_up_to_date, done
from router.policy.shortlist import Option, Shortlist
from router.policy.table import Resolved
from router.state import RouterState

HEDGED_HEADER = "x-fed-hedged"  # of an answer to a request that two clusters were asked

SOON_S = 0.002  # nobody looks again sooner


class Hedges:
    """Looks after requests whose answers are late."""

    def __init__(self, *, state: RouterState, metrics: Metrics) -> None:
        self._state = state
        self._metrics = metrics

    def __repr__(self) -> str:
        return f"Hedges({self._state.hedging})"

    def pace(self, resolved: Resolved) -> Pace:
        """Return when answers of a model version are late."""
        return self._state.hedging.pace(resolved)

    def after_s(self, resolved: Resolved, now_s: float) -> float:
        """Return after how long answers of a model version are late; NEVER_S if none is."""
        pace = self.pace(resolved)
        return pace.after_s if now_s < pace.until_s else self.renewed(resolved, pace, now_s)

    def renewed(self, resolved: Resolved, pace: Pace, now_s: float) -> float:
        """Return the same, from what was seen until now."""
        model, version = resolved.route.name, resolved.version
        histograms = self._state.counting.histograms(model, version)
        return pace.renew(histograms, upper_ms, now_s)

    def look(self, short: Shortlist, late: Late) -> tuple[Option | None, float]:
        """Return which cluster is to be asked, too, and in how many seconds to look again (0 = it
        is to be asked now); none if it is not to be, which is counted."""
        state = self._state
        now_s = state.clock.monotonic_s()
        found: tuple[Option, float] | NotSent
        age_s, allowed = now_s - late.sent_s, state.hedging.allows(state.budget.requests)
        if state.hedging.scarce and age_s < late.pace.very_s < NEVER_S:
            return None, max(late.pace.very_s - age_s, SOON_S)
        if not allowed:
            found = NotSent.BUDGET
        elif not state.budget.is_calm(now_s):
            found = NotSent.RETRIES
        else:
            bring_up_to_date(short, state.signals, now_s)
            found = hedging.second(short, late, now_s, state.dice)
        if isinstance(found, NotSent):
            self._metrics.not_hedged.labels(found).inc()
            return None, max(age_s, SOON_S)  # when it is twice as old
        option, wait_s = found
        return option, max(wait_s, SOON_S) if wait_s else 0.0

    def wait_s(self, short: Shortlist, late: Late) -> float:
        """Return in how many seconds to look again: 0 = a second cluster is to be asked now, less =
        it is too late for that."""
        left_s = late.deadline_s - self._state.clock.monotonic_s()
        return min(self.look(short, late)[1], left_s) if left_s > SOON_S else -1.0

    def spend(self, short: Shortlist, second: Option) -> None:
        """A request is sent to a second cluster."""
        state = self._state
        now_s = state.clock.monotonic_s()
        state.hedging.spend()
        state.budget.spend(now_s)
        self._metrics.count_decision(done(short, second), 0.0)

    def over(self, resolved: Resolved, hedged: Hedged, *, refund: bool) -> None:
        """It is over; take note of how. `refund`: of the budget for retries, since it was
        answered."""
        if hedged.outcome is Outcome.WON and hedged.given_up:
            self.pace(resolved).outrun += 1
        if refund:
            self._state.budget.refund(self._state.clock.monotonic_s())
        self._metrics.hedges.labels(hedged.outcome).inc()
