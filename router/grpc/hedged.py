"""A call whose answer is late, and its second attempt: `router.request.race`, for gRPC.

Input: calls that were sent whole and wait. Output: when to look at them, where they are sent, too,
and what became of both attempts, learned and counted once each. `policy.hedging` decides, with the
estimate and the budget that HTTP has; the switch cancels who loses.
"""

from dataclasses import dataclass

from federation.relay.h2.blocks import literal
from federation.relay.h2.message import is_one_message
from federation.relay.h2.service import Failure, Route
from router.counting import LEFT
from router.grpc.asking import SEQUENCE
from router.grpc.quick import QuickCall
from router.grpc.record import Second
from router.grpc.verdict import NO_GRPC, of_failure
from router.grpc.ways import ours
from router.policy import hedging
from router.policy.decision import Question
from router.policy.hedging import LEAST_S, NEVER_S, Hedged, Late, Outcome
from router.policy.pick import shortlist
from router.policy.retry import Failed, Limits
from router.policy.signals import Ending
from router.request.hedge import HEDGED_HEADER, SOON_S

_REPLAY = b"x-federation-replay"
_ONCE = (b"never", b"on-failure")  # what clients say there who want no second attempt beside one
_HEDGED = HEDGED_HEADER.encode()
_MOST = 256 * 1024  # bytes of a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Where `late` said that a call is to be sent, too."""

    second: Second
    hedged: Hedged


class HedgedCall(QuickCall):
    """One call. `handler.RouterCall` knows the usual steps."""

    _next: Chosen | None = None

    def late_at_s(self) -> float:
        """Return when it is late; of what is not sent yet, when to see."""
        rpc, resolved = self._rpc, self._resolved
        if self._hedged is not None or self._unreplayable or (rpc is not None and not rpc.plain):
            return NEVER_S
        now_s = self._service.now_s()
        if resolved is None or self._attempt is None:
            return now_s + LEAST_S
        return self._sent_s + self._service.hedges.after_s(resolved, now_s)

    def late(self, now_s: float, body: bytes) -> Route | float:
        """Return where a late call is sent, too, or when to look again."""
        at_s, resolved, chosen = self.late_at_s(), self._resolved, self._chosen
        if now_s < at_s or resolved is None or chosen is None:
            return at_s
        hedges, deadline_s = self._service.hedges, self._deadline_s()
        failed = [f.cluster for f in self._failed]
        limits = Limits(
            deadline_s=deadline_s, unreplayable=self._unreplayable, may_hedge=self._may_hedge(body)
        )
        if not hedging.may_be(limits, len(failed)) or deadline_s - now_s <= SOON_S:
            return NEVER_S
        question = Question(
            resolved=resolved, now_s=now_s, regions=self._caller.regions, origin=self._origin()
        )
        short = shortlist(self._state.require_table(), self._state.signals, question)
        pace, sent_s = hedges.pace(resolved), self._sent_s
        late = Late(asked=chosen, sent_s=sent_s, deadline_s=deadline_s, failed=failed, pace=pace)
        option, wait_s = hedges.look(short, late)
        if option is None or wait_s > 0.0:
            return now_s + wait_s
        self._next = Chosen(
            second=Second(option=option, short=short),
            hedged=Hedged(first=chosen.cluster, second=option.cluster, after_s=now_s - sent_s),
        )
        backend = self._service.backend(option.cluster, option.url)
        return Route(backend, self._told + ours(resolved))

    def _may_hedge(self, body: bytes) -> bool:
        """Whether it may be at two clusters at once, by what its client says and sent."""
        if self._head.one(_REPLAY).strip().lower() in _ONCE:
            return False
        return is_one_message(body, _MOST) and SEQUENCE not in body

    def sent_too(self) -> None:
        """It was sent to a second cluster: count that."""
        found, self._next, resolved = self._next, None, self._resolved
        if found is None or resolved is None:
            return
        second, service = found.second, self._service
        second.sent_s = service.now_s()
        second.attempt = service.steps.begin(second.option, resolved, self._caller, second.sent_s)
        service.hedges.spend(second.short, second.option)
        self._second, self._hedged = second, found.hedged
        self._to = None  # no more the short way

    def second_takes_over(self, failure: Failure | None) -> None:
        """The second attempt is the call's own from now on."""
        second, now_s, chosen = self._second, self._service.now_s(), self._chosen
        if second is None or second.attempt is None or chosen is None:
            return
        if failure is None:
            own, self._attempt = self._attempt, None
            self._outrun(
                Second(option=chosen, short=second.short, attempt=own, sent_s=self._sent_s), now_s
            )
        else:
            failed = of_failure(failure, chosen)
            self._end_attempt(failed.ending, failed.reason, now_s, failed.status)
            self._failed = (*self._failed, failed)
        self._chosen, self._attempt, self._sent_s = second.option, second.attempt, second.sent_s
        second.attempt, second.is_own = None, True

    def second_lost(self, failure: Failure) -> None:
        """The second cluster failed, and the first one still works."""
        second, now_s = self._second, self._service.now_s()
        if second is None or second.attempt is None:
            return
        failed = of_failure(failure, second.option)
        self._end_second(second, failed, now_s)
        self._failed = (*self._failed, failed)

    def _answered_one(self, now_s: float) -> bytes:
        """The call's own attempt is answered; return the field that tells of the other one."""
        second, hedged = self._second, self._hedged
        if hedged is None or second is None:
            return b""
        if second.attempt is not None:
            self._outrun(second, now_s)
            second.attempt = None
        self._close_hedge(Outcome.WON if second.is_own else Outcome.LOST)
        return literal(_HEDGED, hedged.outcome.encode())

    def _outrun(self, leg: Second, now_s: float) -> None:
        """An attempt was given up, since the other one is answered."""
        if leg.attempt is not None:
            leg.attempt.outrun(now_s)
            if self._hedged is not None:
                self._hedged.given_up = True
        self._end_second(leg, None, now_s)

    def _end_second(self, leg: Second, failed: Failed | None, now_s: float) -> None:
        attempt, leg.attempt = leg.attempt, None
        if attempt is None or self._resolved is None:
            return
        if failed is not None and failed.reason == NO_GRPC:
            attempt.end(failed.ending, failed.reason, now_s)
            self._shared.metrics.count_attempt(failed.ending)
            return
        seen = self._resolved, leg.option, failed.status if failed else LEFT, now_s - leg.sent_s
        self._service.steps.ended(attempt, failed, now_s, answered=False, seen=seen)

    def _close_hedge(self, outcome: Outcome) -> None:
        """It is over, and how; once."""
        hedged, resolved = self._hedged, self._resolved
        if self._second is None or hedged is None or resolved is None:
            return
        self._second, hedged.outcome = None, outcome
        answered = outcome in (Outcome.WON, Outcome.LOST)
        self._service.hedges.over(resolved, hedged, refund=answered and hedged.given_up)

    def _leave_second(self, ending: Ending, why: str, now_s: float, status: int) -> None:
        """The call is over before either was answered."""
        second = self._second
        if second is None:
            return
        if second.attempt is not None and ending is not Ending.ABANDONED:
            cluster, version = second.option.cluster, second.option.version
            failed = Failed(
                cluster=cluster, ending=ending, reason=why, version=version, status=status
            )
            self._end_second(second, failed, now_s)
        else:
            self._end_second(second, None, now_s)
        self._close_hedge(Outcome.LEFT)
