"""What is known of one gRPC call at the router, and how it is accounted for at its end.

Input: what `handler` decided and saw of the call. Output: counts, places and quotas given back, and
what the client is told besides a status. Every call ends in `ended`, once.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from federation.contract.errors import FederationError
from federation.contract.types import ModelProtocol
from federation.relay.h2.blocks import literal
from federation.relay.h2.heads import RequestHead
from federation.relay.h2.message import Named
from federation.relay.h2.service import Held, Patience, Route
from federation.relay.h2.start import Start
from federation.relay.h2.status import Status
from federation.relay.transport import Inbound
from router.counting import LEFT
from router.grpc.asking import LONGEST_MS, id_of
from router.grpc.methods import Rpc
from router.grpc.refusing import Story, given_up
from router.grpc.telling import http_status
from router.grpc.verdict import NO_GRPC
from router.policy.access import EVERYONE, Caller
from router.policy.admission import Place
from router.policy.decision import Reason
from router.policy.hedging import Hedged
from router.policy.quota import Hold, OverQuota
from router.policy.retry import Failed
from router.policy.shortlist import Option, Shortlist
from router.policy.signals import Attempt, Ending
from router.policy.table import Resolved
from router.policy.usage import estimate
from router.records import Scored, Who
from router.request.holding import RETRY_AFTER_S, Asleep, HeldPlace

if TYPE_CHECKING:
    from router.grpc.service import GrpcService

Picked = tuple[Option | None, Reason | None, Scored]

_NOTHING: Picked = (None, None, ())
_FORWARDED = b"x-forwarded-for"
_PATIENT = Patience()
# Bound here, for to look up a member of an enumeration takes a quarter of a microsecond.
TENSOR, _ABANDONED, _LATE = ModelProtocol.TENSOR, Ending.ABANDONED, Status.DEADLINE_EXCEEDED


@dataclass(slots=True, kw_only=True)
class Second:
    """An attempt beside the call's own one; `attempt` is None once it is ended or has become the
    call's own (`is_own`)."""

    option: Option
    short: Shortlist
    attempt: Attempt | None = None
    sent_s: float = 0.0
    is_own: bool = False


class CallRecord:
    """One call. `handler.RouterCall` decides for it."""

    # What a call begins with; to set it for each one would cost much of what is done for it.
    _rpc: Rpc | None = None
    _caller: Caller = EVERYONE
    _named: Named | None = None
    _resolved: Resolved | None = None
    _chosen: Option | None = None
    _picked: Picked = _NOTHING  # the last choice
    _answered_by: Option | None = None
    _attempt: Attempt | None = None
    _sent_s = _answered_s = 0.0
    _failed: tuple[Failed, ...] = ()
    _second: Second | None = None  # as long as it is open what becomes of the two
    _hedged: Hedged | None = None
    _place: Place | None = None
    _hold: Hold | None = None
    _unreplayable = ""
    _request_size = 0
    _held: HeldPlace | None = None  # while its model sleeps
    _held_s = 0.0
    patience = _PATIENT

    def __init__(self, service: "GrpcService", head: RequestHead, inbound: Inbound | None) -> None:
        self._service = service
        self._shared = service.shared
        self._state = service.state
        self._head = head
        self._inbound = inbound
        self._started_s = service.now_s()
        self._told = service.ids.field_of(head)

    def __repr__(self) -> str:
        return f"RouterCall({self._told!r}, {self._rpc}, failed={self._failed})"

    def _send(self, named: Named, start: Start) -> Route | Held:
        """Choose a cluster; raises FederationError."""
        raise NotImplementedError

    def _leave_second(self, ending: Ending, why: str, now_s: float, status: int) -> None:
        """The call is over while it is at two clusters."""
        raise NotImplementedError

    def keep(self, size: int) -> bool:
        """Return whether so many more bytes may be kept for another attempt."""
        return self._place is not None and self._place.keep(size)

    def _deadline_s(self) -> float:
        total_s, first_s = self.patience.total_s, self.patience.first_s
        return self._started_s + min(total_s or LONGEST_MS, (first_s or LONGEST_MS) + self._held_s)

    def _given_up(
        self, why: str, *, unreplayable: bool = False, full: bool = False
    ) -> FederationError:
        story = Story(
            name=self._named.name if self._named else "",
            version=self._resolved.version if self._resolved else None,
            failed=self._failed,
            late=self._state.clock.monotonic_s() >= self._deadline_s(),
        )
        return given_up(story, why, unreplayable=unreplayable, full=full)

    def told(self, error: FederationError) -> bytes:
        """Return what a client gets with an error of ours."""
        self._shared.metrics.refused.labels(error.reason).inc()
        fields = self._told + literal(b"x-fed-attempts", b"%d" % len(self._failed))
        if isinstance(error, OverQuota):
            fields += literal(b"retry-after", b"%d" % error.retry_after_s)
        elif isinstance(error, Asleep):
            fields += literal(b"retry-after", b"%d" % RETRY_AFTER_S)
        return fields

    # ------------------------------------------------------------ the end

    def ended(self, status: Status | None, sent: int) -> None:
        """The call is over: count it, and give everything back."""
        now_s = self._service.now_s()
        ending, why = _ABANDONED, ""
        if status is _LATE and self.patience.total_s is None:
            ending, why = Ending.BROKEN, "no answer in time"
        self._end_attempt(ending, why, now_s, http_status(status))
        if self._second is not None:
            self._leave_second(ending, why, now_s, http_status(status))
        if self._hold is None:
            return
        if self._held is not None:
            self._held.leave()
        resolved = self._resolved
        if resolved and resolved.route.protocol is not TENSOR and sent:
            self._hold.used = estimate(self._request_size) + estimate(sent)
        used = self._hold.used
        self._hold.leave()
        if self._place is not None:
            self._place.leave()
        self._count(status, used, now_s)
        self._keep_record(status, now_s)

    def _keep_record(self, status: Status | None, now_s: float) -> None:
        """Remember what became of the call, for whoever asks by its id."""
        began = (id_of(self._told), now_s, self._started_s, self._who(), self._resolved)
        told = http_status(status), self._failed, self._hedged
        self._state.records.keep((*began, *self._picked, *told))

    def _who(self) -> Who:
        """Return whom a record names."""
        shown, inbound = self._head.noted.get(_FORWARDED), self._inbound
        hops = tuple(hop.decode("latin-1") for hop in shown) if shown else ()
        return inbound.remote if inbound else "", hops, self._caller.tenant.name

    def _end_attempt(self, ending: Ending, reason: str, now_s: float, status: int) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and self._resolved and self._chosen:
            attempt.end(ending, reason, now_s)
            if reason != NO_GRPC:
                took_s = (self._answered_s or now_s) - self._sent_s
                status = 200 if self._answered_s and status == LEFT else status
                self._state.counting.attempted(self._resolved, self._chosen, status, took_s)
            self._shared.metrics.count_attempt("answered" if self._answered_by else ending)

    def _count(self, status: Status | None, tokens: int, now_s: float) -> None:
        code = http_status(status)
        self._state.requests_total += 1
        self._state.errors_total += code >= 500
        model, by = self._resolved.route.name if self._resolved else "", self._answered_by
        self._shared.metrics.count(
            (model, by.region if by else "", by.cluster if by else ""),
            self._caller.tenant.name,
            code,
            tokens,
            now_s - self._started_s,
        )
