"""One gRPC call at the router: admitted, routed, tried again, counted.

Input: the head of a call, the beginning of its first message, what its attempts came to. Output:
where it goes, as the same policy decides that routes HTTP. The gateway is told model and version in
headers, and sees to it that these run, whatever the message says.
"""

from functools import lru_cache
from importlib.metadata import version as installed
from typing import TYPE_CHECKING

from federation.contract.errors import (
    DeadlineExceeded,
    Exhausted,
    FederationError,
    NotFound,
    TooLarge,
    Unavailable,
)
from federation.contract.types import Location, ModelProtocol
from federation.relay.h2.blocks import literal
from federation.relay.h2.heads import AnswerHead, RequestHead
from federation.relay.h2.message import Named
from federation.relay.h2.rewriting import Replacing
from federation.relay.h2.service import Failure, Kind, Patience, Reply, Route
from federation.relay.h2.start import Start
from federation.relay.h2.status import Status, Unimplemented
from federation.relay.headers import (
    LOAD_HEADER,
    MODEL_HEADER,
    OUTCOME_HEADER,
    REFUSED_HEADER,
    REQUEST_ID_HEADER,
    VERSION_HEADER,
)
from federation.relay.transport import Inbound
from router.call import SESSION_HEADER
from router.grpc.asking import (
    LONGEST_MS,
    check_reference,
    deadline_s,
    in_sequence,
    least,
    named_in,
    request_id,
    version_of,
)
from router.grpc.methods import (
    LIVE,
    NOT_READY,
    READY,
    Need,
    Rpc,
    metadata_with,
    rpc_of,
    server_metadata,
)
from router.grpc.telling import http_status, load_of, way
from router.holding import RETRY_AFTER_S, Asleep, sleeps
from router.policy import affinity, residency
from router.policy.access import EVERYONE, Caller
from router.policy.admission import Place
from router.policy.decision import Decision, Question, Reason
from router.policy.pick import decide
from router.policy.quota import Hold, OverQuota
from router.policy.retry import Failed, Limits, why_not
from router.policy.shortlist import Option
from router.policy.signals import Attempt, Ending
from router.policy.table import Resolved
from router.policy.usage import estimate
from router.responses import SERVER_NAME

if TYPE_CHECKING:
    from router.grpc.service import GrpcService

_REQUEST_ID, _SESSION = REQUEST_ID_HEADER.encode(), SESSION_HEADER.encode()
_NOT_HELD = "calls of gRPC do not wait for it: try again in a few seconds"
NO_GRPC = "no-grpc"  # a gateway whose engine speaks none
_LOAD, _REFUSED, _OUTCOME = (n.encode() for n in (LOAD_HEADER, REFUSED_HEADER, OUTCOME_HEADER))
_ENDINGS = {
    Kind.UNREACHABLE: Ending.UNREACHABLE,
    Kind.UNPROCESSED: Ending.BROKEN,
    Kind.REFUSED: Ending.REFUSED,
    Kind.BROKEN: Ending.BROKEN,
    Kind.GIVEN_UP: Ending.BROKEN,
}


@lru_cache(maxsize=4096)
def _ours(model: str, version: int) -> bytes:
    """Return the fields that tell a gateway what was resolved."""
    named = literal(MODEL_HEADER.encode(), model.encode())
    return named + literal(VERSION_HEADER.encode(), b"%d" % version)


class RouterCall:
    """The Handler of one call."""

    def __init__(self, service: "GrpcService", head: RequestHead, inbound: Inbound | None) -> None:
        self._service = service
        self._shared = service.shared
        self._state = service.shared.state
        self._head = head
        self._inbound = inbound
        self._started_s = self._state.clock.monotonic_s()
        self._rpc: Rpc | None = None
        self._caller: Caller = EVERYONE
        self._named: Named | None = None
        self._resolved: Resolved | None = None
        self._decision: Decision | None = None
        self._chosen: Option | None = None
        self._answered_by: Option | None = None
        self._attempt: Attempt | None = None
        self._sent_s = 0.0
        self._failed: list[Failed] = []
        self._place: Place | None = None
        self._hold: Hold | None = None
        self._unreplayable = ""
        self._request_tokens = 0
        self._request_id = request_id(head)
        self.patience = Patience()

    def __repr__(self) -> str:
        return f"RouterCall({self._request_id.decode()}, {self._rpc}, failed={self._failed})"

    # ------------------------------------------------------------ step by step

    def route(self, start: Start) -> Route | Reply | None:
        """Return where the call goes, None if more of it must be seen; raises FederationError."""
        rpc = self._rpc or self._come_in()
        if rpc.need is Need.ROUTER:
            return self._own(rpc) if start.ended else None
        if self._named is None:
            self._named = named_in(start)
            if self._named is None:
                return None
            check_reference(self._named.name)
            self._caller.check_model(self._named.name)
        if rpc.need is Need.MODEL_READY:
            return self._model_ready(self._named) if start.ended else None
        if self._hold is None:
            self._admit(rpc, start)
        return self._send(self._named)

    def _come_in(self) -> Rpc:
        """Judge the head alone."""
        rpc = rpc_of(self._head.path)
        if not rpc.open:
            self._caller = self._service.callers.of(self._head)
        limits = self._shared.limits
        self.patience.total_s = least(self._head.timeout_s, deadline_s(self._head))
        self.patience.first_s = None if rpc.streams else limits.deadline_s
        self._rpc = rpc
        return rpc

    def _own(self, rpc: Rpc) -> Reply:
        if rpc.table:
            self._state.require_table()
        if rpc.name == "ServerMetadata":
            return Reply(message=server_metadata(SERVER_NAME, installed("inference-federation")))
        return Reply(message=READY if rpc.table else LIVE)

    def _model_ready(self, named: Named) -> Reply:
        try:
            resolved = self._resolve(named)
        except NotFound:
            return Reply(message=NOT_READY)
        decision = self._decide(resolved)
        ready = decision.chosen is not None and not decision.desperate
        return Reply(message=READY if ready else NOT_READY)

    def _admit(self, rpc: Rpc, start: Start) -> None:
        """Take the call's share of this router and of its tenant; raises FederationError."""
        most = self._shared.limits.body.max_bytes
        if start.size > most:
            raise TooLarge(f"The call's message is larger than {most} bytes.")
        place = self._shared.admission.place()
        self._hold = self._shared.quotas.enter(self._caller.tenant, self._started_s)
        self._place = place.__enter__()  # `ended` leaves both
        self._state.budget.request(self._started_s)
        self._request_tokens = estimate(start.size)
        if self._head.one(b"x-federation-replay").strip().lower() == b"never":
            self._unreplayable = "its client asked that it is never sent twice"
        elif rpc.streams:
            self._unreplayable = "it is a stream, of which a cluster may have worked on a part"
        elif in_sequence(start):
            self._unreplayable = "it belongs to a sequence, whose state is at one replica"

    def _send(self, named: Named) -> Route:
        """Choose a cluster."""
        first = self._resolved is None
        resolved = self._resolved = self._resolve(named)
        text = resolved.route.protocol is not ModelProtocol.TENSOR
        if first and text and self._hold is not None and self._inferring:
            self._hold.expect_tokens(self._request_tokens, self._started_s)
        decision = self._decide(resolved)
        chosen = decision.chosen
        if chosen is None:
            if sleeps(resolved):
                raise self._shared.holding.cannot_wait(resolved, _NOT_HELD)
            raise self._given_up(decision.why, full=decision.reason is Reason.FULL)
        if self._failed:
            self._spend_retry(decision)
        residency.assure(resolved.route, self._caller.regions, chosen)
        self._chosen, self._sent_s = chosen, self._state.clock.monotonic_s()
        self._attempt = self._state.signals.begin(
            chosen.cluster, resolved.route.name, resolved.version, self._sent_s
        )
        return Route(
            backend=self._service.backend(chosen.cluster, chosen.url),
            headers=self._headers(resolved),
            answer=None if self._inferring else self._renaming(resolved),
        )

    @property
    def _inferring(self) -> bool:
        return self._rpc is None or self._rpc.name != "ModelMetadata"

    def _headers(self, resolved: Resolved) -> bytes:
        return literal(_REQUEST_ID, self._request_id) + _ours(resolved.route.name, resolved.version)

    def _renaming(self, resolved: Resolved) -> Replacing:
        name = resolved.route.name
        versions = self._state.require_table().versions[name]
        return Replacing(lambda message: metadata_with(message, name, versions))

    def _resolve(self, named: Named) -> Resolved:
        table = self._state.require_table()
        return table.resolve(named.name, version_of(named), self._caller.may_use)

    def _decide(self, resolved: Resolved) -> Decision:
        residency.check(resolved.route, self._caller.regions)
        state = self._state
        now_s = state.clock.monotonic_s()
        question = Question(
            resolved=resolved,
            now_s=now_s,
            failed=[failed.cluster for failed in self._failed],
            regions=self._caller.regions,
            affinity=affinity.keys(self._head.one(_SESSION)[:200].decode("latin-1"), b""),
            origin=state.location or self._client_location(),
        )
        decision = decide(state.require_table(), state.signals, question, state.dice)
        self._shared.metrics.decision.observe(state.clock.monotonic_s() - now_s)
        self._shared.metrics.decisions.labels(decision.reason).inc()
        return decision

    def _client_location(self) -> Location | None:
        remote = self._inbound.remote if self._inbound else ""
        return self._service.location_of(remote, self._head.noted.get(b"x-forwarded-for", ()))

    def _spend_retry(self, decision: Decision) -> None:
        now_s = self._state.clock.monotonic_s()
        if not self._state.budget.allows(now_s, hopeful=not decision.desperate):
            raise self._given_up("It was not tried again: too many requests are retried now.")
        self._state.budget.spend(now_s)

    # ------------------------------------------------------------ what attempts come to

    def keep(self, size: int) -> bool:
        """Return whether so many more bytes may be kept for another attempt."""
        return self._place is not None and self._place.keep(size)

    def judge(self, answer: AnswerHead, *, alone: bool) -> Failure | None:
        """Return why the head of an answer is none."""
        if reason := answer.noted.get(_REFUSED, b""):
            said = reason[:40].decode("ascii", "replace")
            return Failure(kind=Kind.REFUSED, why=said, reason=said)
        if _OUTCOME in answer.noted:
            why = f"its engine failed under the call (status {answer.grpc_status.decode()})"
            return Failure(kind=Kind.BROKEN, why=why, reason="outcome")
        if alone and answer.grpc_status == b"14" and _LOAD not in answer.noted:
            return Failure(kind=Kind.BROKEN, why="it answered that it is unavailable")
        return None

    def answer(self, answer: AnswerHead, *, first: bool, last: bool) -> bytes:
        """Return the header block to send on: the first one tells the way that the call took."""
        if not first or self._chosen is None or self._resolved is None:
            return answer.block
        now_s = self._state.clock.monotonic_s()
        if self._attempt is not None:
            waited_ms = (now_s - self._sent_s) * 1000
            self._attempt.first_byte(waited_ms, load_of(answer), now_s)
        self._answered_by = self._chosen
        if self._failed:
            self._state.budget.refund(now_s)
            self._shared.metrics.failovers.inc()
        chosen, version = self._chosen, self._resolved.version
        told = literal(_REQUEST_ID, self._request_id) + way(
            chosen.region, chosen.cluster, version, len(self._failed) + 1
        )
        return answer.block + told

    def lost(self, failure: Failure, *, again: bool) -> None:
        """An attempt failed; raises FederationError if it is not to be made again."""
        now_s = self._state.clock.monotonic_s()
        chosen = self._chosen
        if chosen is None:
            raise Unavailable(failure.why)
        ending = _ENDINGS[failure.kind]
        if failure.reason == NO_GRPC:
            ending = Ending.ABANDONED  # it serves HTTP as well as ever
        elif failure.reason == "outcome":
            ending = Ending.REFUSED
        reason = failure.why if failure.kind is Kind.UNREACHABLE else failure.reason or failure.why
        failed = Failed(cluster=chosen.cluster, ending=ending, reason=reason)
        self._end_attempt(ending, reason, now_s)
        self._failed.append(failed)
        why = "" if failure.nothing_done else self._unreplayable
        if not again:
            why = "its body was too large to be kept for another try, or memory for that was short"
        limits = Limits(deadline_s=self._deadline_s(), unreplayable=why)
        if reason := why_not(self._failed, limits, now_s):
            unreplayable = bool(why)
            raise self._given_up(f"It was not tried again: {reason}.", unreplayable=unreplayable)

    def _deadline_s(self) -> float:
        patience = self.patience
        return self._started_s + min(patience.total_s or LONGEST_MS, patience.first_s or LONGEST_MS)

    def _given_up(
        self, why: str, *, unreplayable: bool = False, full: bool = False
    ) -> FederationError:
        """Say what was tried, why no more, and what the client can do."""
        story = "; ".join(f"{f.cluster}: {f.reason}" for f in self._failed)
        name = self._named.name if self._named else ""
        what = f"version {self._resolved.version} of " if self._resolved else ""
        message = f"No cluster answered for {what}{name!r} ({story}). {why}" if story else why
        reasons = {f.reason for f in self._failed}
        if reasons == {NO_GRPC}:
            return Unimplemented(
                f"The engines that serve {name!r} speak no gRPC.",
                hint=f"Use HTTP: POST /v2/models/{name}/infer.",
            )
        if full or reasons == {"saturated"}:
            return Exhausted(message, hint="Try again in a second.", reason="saturated")
        if self._state.clock.monotonic_s() >= self._deadline_s():
            return DeadlineExceeded(message, hint="Allow more time.")
        reason = "not-replayable" if unreplayable else "no-replica"
        return Unavailable(message, hint="Try again in a moment.", reason=reason)

    def told(self, error: FederationError) -> bytes:
        """Return what a client gets with an error of ours."""
        self._shared.metrics.refused.labels(error.reason).inc()
        fields = literal(_REQUEST_ID, self._request_id)
        fields += literal(b"x-fed-attempts", b"%d" % len(self._failed))
        if isinstance(error, OverQuota):
            fields += literal(b"retry-after", b"%d" % error.retry_after_s)
        elif isinstance(error, Asleep):
            fields += literal(b"retry-after", b"%d" % RETRY_AFTER_S)
        return fields

    # ------------------------------------------------------------ the end

    def ended(self, status: Status | None, sent: int) -> None:
        """The call is over: count it, and give everything back."""
        now_s = self._state.clock.monotonic_s()
        ending, why = Ending.ABANDONED, ""
        if status is Status.DEADLINE_EXCEEDED and self.patience.total_s is None:
            ending, why = Ending.BROKEN, "no answer in time"
        self._end_attempt(ending, why, now_s)
        if self._hold is None:
            return
        resolved = self._resolved
        if resolved and resolved.route.protocol is not ModelProtocol.TENSOR and sent:
            self._hold.used = self._request_tokens + estimate(sent)
        used = self._hold.used
        self._hold.leave()
        if self._place is not None:
            self._place.__exit__()
        self._count(status, used, now_s)

    def _end_attempt(self, ending: Ending, reason: str, now_s: float) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.end(ending, reason, now_s)
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
