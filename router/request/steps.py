"""The steps of a request that decide, learn and count: each plain code, done at once.

Input: who asks for which model, what an attempt showed. Output: a version, a cluster, a signal
learned, a request counted. `proxy`, which waits, and `quick`, which does not, take the very same
steps. A version is chosen in `resolve` and nowhere else; what an attempt came to is noted in
`ended` and nowhere else.
"""

from collections.abc import Sequence

from multidict import CIMultiDict

from federation.contract.types import Location
from federation.relay.http1.messages import Request
from router.geo import Locator
from router.metrics.requests import Metrics, Tally
from router.policy import canary, residency
from router.policy.access import Caller
from router.policy.decision import Decision, Question
from router.policy.pick import decide
from router.policy.retry import Failed
from router.policy.shortlist import Option
from router.policy.signals import Attempt, Ending
from router.policy.table import Resolved, RoutingTable
from router.records import Who
from router.request.call import Call
from router.request.door import Visit
from router.request.steer import Steering
from router.state import RouterState

_PLACES = 1024  # of clients that are remembered


class Steps:
    """What is done for each request of a router."""

    def __init__(self, *, state: RouterState, metrics: Metrics, locator: Locator) -> None:
        self.state = state
        self.metrics = metrics
        self._locator = locator
        self._resolved: dict[tuple[Caller, str, int | None], Resolved] = {}  # by this table:
        self._resolved_by: RoutingTable | None = None
        self._places: dict[tuple[str, ...], Location | None] = {}  # where clients are
        self.steering = Steering(state=state, locator=locator)
        self._now_s = state.clock.monotonic_s

    def __repr__(self) -> str:
        return f"Steps({self.state})"

    # ------------------------------------------------------------ before it is sent

    def resolve(self, caller: Caller, reference: str, version: int | None) -> Resolved:
        """Choose the version that answers; raises PermissionDenied, NotFound or Unavailable."""
        table = self.state.require_table()
        if self._resolved_by is not table:
            self._resolved_by, self._resolved = table, {}
        key = (caller, reference, version)
        found = self._resolved.get(key)
        if found is None:
            caller.check_model(reference)
            found = table.resolve(reference, version, caller.may_use)
            residency.check(found.route, caller.regions)
            self._resolved[key] = found
        return found

    def decide(
        self,
        resolved: Resolved,
        caller: Caller,
        origin: Location | None,
        *,
        failed: Sequence[Failed] = (),
        affinity: Sequence[int] = (),
        careful: bool = False,
    ) -> Decision:
        """Choose a cluster."""
        state = self.state
        now_s = state.clock.monotonic_s()
        question = self.question(resolved, caller, origin, now_s)
        question.failed, question.affinity = [f.cluster for f in failed], affinity
        question.careful = careful
        choose = decide if resolved.split is None else canary.decide
        decision = choose(state.require_table(), state.signals, question, state.dice)
        self.metrics.count_decision(decision.reason, state.clock.monotonic_s() - now_s)
        return decision

    def question(
        self, resolved: Resolved, caller: Caller, origin: Location | None, now_s: float
    ) -> Question:
        """Return what is asked when a cluster is to be chosen."""
        return Question(resolved=resolved, now_s=now_s, regions=caller.regions, origin=origin)

    def origin(self, remote: str, headers: CIMultiDict[str]) -> Location | None:
        """Return from where distances are guessed: the router's own place, else the client's."""
        if self.state.location is not None:
            return self.state.location
        shown = headers.getall("x-forwarded-for", ())
        key = (remote, *shown)
        if key in self._places:
            return self._places[key]
        place = self._locator.locate(self._locator.client_address(remote, shown))
        if len(self._places) >= _PLACES:
            self._places.clear()
        location = self._places[key] = place.location if place else None
        return location

    def steer(self, request: Request, resolved: Resolved, caller: Caller) -> bytes:
        """Return the header line that names a clearly nearer router, b"" = there is none."""
        client = self.steering.client(request.remote, request.headers)
        return self.steering.line(client, resolved, caller) if client is not None else b""

    # ------------------------------------------------------------ what an attempt shows

    def begin(self, option: Option, resolved: Resolved, caller: Caller, now_s: float) -> Attempt:
        """Count a request that is about to be sent; raises PermissionDenied if it would leave where
        it must stay."""
        residency.assure(resolved.route, caller.regions, option)
        return Attempt(self.state.signals, option.lane, now_s)

    def answered(self, attempt: Attempt, status: int, load: int | None, sent_s: float) -> float:
        """The head of an answer came; `load` is what the gateway says is in flight there. Returns
        the moment."""
        now_s = self.state.clock.monotonic_s()
        attempt.first_byte((now_s - sent_s) * 1000, load, now_s, failed=status >= 500)
        if status in (429, 503):
            attempt.overloaded(now_s)
        return now_s

    def went_well(
        self, attempt: Attempt, resolved: Resolved, chosen: Option, load: int | None, sent_s: float
    ) -> float:
        """A small, good answer came whole: `answered` and `ended` in one. Returns the moment."""
        now_s = self._now_s()
        attempt.went_well(load, now_s)
        self.state.counting.attempted(resolved, chosen, 200, now_s - sent_s)
        self.metrics.answered += 1
        return now_s

    def ended(
        self,
        attempt: Attempt,
        failed: Failed | None,
        now_s: float,
        *,
        answered: bool,
        seen: tuple[Resolved, Option, int, float],
    ) -> None:
        """An attempt is over; `seen` is what its version is judged by (`Counting.attempted`)."""
        self.state.counting.attempted(*seen)
        if failed is None:
            attempt.end(Ending.ABANDONED, "", now_s)
        else:
            attempt.end(failed.ending, failed.reason, now_s)
        if answered:
            self.metrics.answered += 1
        else:
            self.metrics.count_attempt(failed.ending if failed else Ending.ABANDONED)

    def answered_elsewhere(self) -> None:
        """A request was answered that had failed before."""
        self.state.budget.refund(self.state.clock.monotonic_s())
        self.metrics.failovers.inc()

    # ------------------------------------------------------------ at its end

    def tally(self, caller: Caller, resolved: Resolved, by: Option, status: int) -> Tally:
        """Return where requests of a kind are counted; good as long as the table is the same."""
        kind = resolved.route.name, by.region, by.cluster
        return self.metrics.tally(kind, caller.tenant.name, status)

    def count(
        self,
        caller: Caller,
        resolved: Resolved | None,
        by: Option | None,
        *,
        status: int,
        tokens: int,
        took_s: float,
    ) -> None:
        """Count a request that is over; `by` is what answered it, None = the router itself."""
        self.state.requests_total += 1
        self.state.errors_total += status >= 500
        self.metrics.count(
            (
                resolved.route.name if resolved else "",
                by.region if by else "",
                by.cluster if by else "",
            ),
            caller.tenant.name,
            status,
            tokens,
            took_s,
        )

    def keep_record(
        self, request: Request, visit: Visit, call: Call | None, status: int, started_s: float
    ) -> None:
        """Remember what became of a request, for whoever asks by its id."""
        resolved, picked, failed, hedged = (
            (call.resolved, call.picked, call.failed, call.hedged)
            if call
            else (None, (None, None, ()), (), None)
        )
        who = who_asks(request.remote, request.headers, visit.caller)
        now_s = self.state.clock.monotonic_s()
        self.state.records.keep(
            (visit.request_id, now_s, started_s, who, resolved, *picked, status, failed, hedged)
        )


def who_asks(remote: str, headers: CIMultiDict[str], caller: Caller) -> Who:
    """Return whom a record names."""
    return remote, tuple(headers.getall("x-forwarded-for", ())), caller.tenant.name


def load_of(text: str) -> int | None:
    """Return the requests in flight that a gateway reports; what is no sane number is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
