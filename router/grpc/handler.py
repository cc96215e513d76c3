"""One gRPC call at the router: admitted, routed, tried again, counted.

Input: the head of a call, the beginning of its first message, what its attempts came to. Output:
where it goes, as the same policy decides that routes HTTP. The gateway is told model and version in
headers, and sees to it that these run, whatever the message says.
"""

from federation.contract.errors import FederationError, NotFound, TooLarge, Unavailable
from federation.contract.types import Location
from federation.relay.h2.heads import AnswerHead
from federation.relay.h2.message import Named
from federation.relay.h2.rewriting import Replacing
from federation.relay.h2.service import Failure, Held, Kind, Patience, Reply, Route
from federation.relay.h2.start import Start
from federation.relay.headers import (
    LOAD_HEADER,
    OUTCOME_HEADER,
    REFUSED_HEADER,
)
from federation.runtime.version import software_version
from router.grpc.asking import (
    check_reference,
    deadline_s,
    in_sequence,
    least,
    named_in,
    version_of,
)
from router.grpc.hedged import HedgedCall
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
from router.grpc.record import TENSOR
from router.grpc.telling import load_of, way_of
from router.grpc.verdict import OUTCOME, of_failure
from router.grpc.ways import Way, key_of, ours
from router.policy import affinity, residency
from router.policy.decision import Decision, Reason
from router.policy.hedging import Outcome
from router.policy.pick import pick
from router.policy.retry import Limits, why_not
from router.policy.signals import Attempt
from router.policy.table import Resolved
from router.policy.usage import estimate
from router.request.call import SESSION_HEADER
from router.request.client_key import grpc_key, settle
from router.request.holding import sleeps
from router.request.responses import SERVER_NAME

_REPLAY = b"x-federation-replay"
_SESSION = SESSION_HEADER.encode()
_LOAD, _REFUSED, _OUTCOME = (n.encode() for n in (LOAD_HEADER, REFUSED_HEADER, OUTCOME_HEADER))
_EVER_S = float("inf")
# Bound here, for to look up a member of an enumeration takes a quarter of a microsecond.
_ROUTER, _MODEL_READY = Need.ROUTER, Need.MODEL_READY


class RouterCall(HedgedCall):
    """The Handler of one call."""

    # ------------------------------------------------------------ step by step

    def route(self, start: Start) -> Route | Reply | Held | None:
        """Return where the call goes, None if more of it must be seen; raises FederationError."""
        key = None
        if self._hold is None:
            remote = self._inbound.remote if self._inbound else ""
            key = key_of(self._head, start.message, remote)
            way = self._service.ways.known(key, self._started_s) if key else None
            if way is not None:
                return self._follow(way, start)
        rpc = self._rpc or self._come_in()
        if rpc.need is _ROUTER:
            return self._own(rpc) if start.ended else None
        if self._named is None:
            self._named = named_in(start)
            if self._named is None:
                return None
            check_reference(self._named.name)
            self._caller.check_model(self._named.name)
        if rpc.need is _MODEL_READY:
            return self._model_ready(self._named) if start.ended else None
        if self._hold is None:
            self._admit(rpc, start)
        if self._held is not None:  # it waited for a model to wake
            self._held_s += self._held.leave()
            self._held, self._failed = None, ()
        route = self._send(self._named, start)
        if key is not None and isinstance(route, Route) and rpc.plain and not self._session:
            self._service.ways.keep(key, self._way(rpc, self._named), self._started_s)
        return route

    def _way(self, rpc: Rpc, named: Named) -> Way:
        """Return what calls like this one need not be asked again."""
        first_s = self._shared.limits.deadline_s
        way = Way(
            rpc=rpc,
            caller=self._caller,
            named=named,
            patience=Patience(total_s=deadline_s(self._head), first_s=first_s),
            account=self._shared.quotas.account(self._caller.tenant, self._started_s),
        )
        way.version, way.origin = version_of(named), self._origin()
        way.never_twice = self._never_twice
        return way

    def _follow(self, way: Way, start: Start) -> Route | Held:
        """Go the way of the last call like this one: as `route` does, without judging again."""
        service, state = self._service, self._state
        self._rpc, self._caller, self._named = way.rpc, way.caller, way.named
        self.patience = way.patience
        if self._head.timeout_s is not None:
            total_s = least(self._head.timeout_s, way.patience.total_s)
            self.patience = Patience(total_s=total_s, first_s=way.patience.first_s)
        self._admit(way.rpc, start)
        found = way.found or self._find(way)
        now_s = service.now_s()
        picked = None if found is None else pick(found[1], state.signals, now_s, state.dice)
        if found is None or picked is None:
            return self._send(way.named, start)
        (resolved, short), (chosen, reason, _) = found, picked
        to = way.tos.get(chosen) or self._way_to(way, resolved, chosen)
        sent_s = service.now_s()
        self._shared.metrics.count_decision(reason, sent_s - now_s)
        self._resolved, self._chosen = resolved, chosen
        self._picked = chosen, reason, short.scored
        self._sent_s, self._answered_s = sent_s, 0.0
        self._attempt = Attempt(state.signals, chosen.lane, sent_s)
        return Route(to.backend, self._told + way.ours)

    def _come_in(self) -> Rpc:
        """Judge the head alone."""
        rpc = rpc_of(self._head.path)
        if not rpc.open:
            self._caller = self._service.callers.of(self._head)
        limits = self._shared.limits
        self.patience = Patience(
            total_s=least(self._head.timeout_s, deadline_s(self._head)),
            first_s=None if rpc.streams else limits.deadline_s,
        )
        self._rpc = rpc
        return rpc

    def _own(self, rpc: Rpc) -> Reply:
        if rpc.table:
            self._state.require_table()
        if rpc.name == "ServerMetadata":
            return Reply(message=server_metadata(SERVER_NAME, software_version()))
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
        self._request_size = start.size
        if _REPLAY in self._head.noted and self._never_twice:
            self._unreplayable = "its client asked that it is never sent twice"
        elif rpc.streams:
            self._unreplayable = "it is a stream, of which a cluster may have worked on a part"
        elif in_sequence(start):
            self._unreplayable = "it belongs to a sequence, whose state is at one replica"

    @property
    def _never_twice(self) -> bool:
        return self._head.one(_REPLAY).strip().lower() == b"never"

    def _send(self, named: Named, start: Start) -> Route | Held:
        """Choose a cluster."""
        first = self._resolved is None
        resolved = self._resolve(named)
        if resolved.split is not None:
            key = grpc_key(self._head.one(_SESSION), start.message)
            resolved = settle(resolved, key, self._state.dice, self._resolved, self._failed)
        self._resolved = resolved
        text = resolved.route.protocol is not TENSOR
        if first and text and self._hold is not None and self._inferring:
            self._hold.expect_tokens(estimate(self._request_size), self._started_s)
        decision = self._decide(resolved)
        chosen = decision.chosen
        self._picked = chosen, decision.reason, decision.scored
        if chosen is None:
            if sleeps(resolved):
                return self._wait(resolved)
            raise self._given_up(decision.why, full=decision.reason is Reason.FULL)
        if self._failed:
            self._spend_retry(decision)
        resolved = self._resolved = decision.resolved
        residency.assure(resolved.route, self._caller.regions, chosen)
        self._chosen, self._sent_s = chosen, self._state.clock.monotonic_s()
        self._answered_s = 0.0
        self._attempt = self._state.signals.begin(
            chosen.cluster, resolved.route.name, resolved.version, self._sent_s
        )
        return Route(
            backend=self._service.backend(chosen.cluster, chosen.url),
            headers=self._told + ours(resolved),
            answer=None if self._inferring else self._renaming(resolved),
        )

    def _wait(self, resolved: Resolved) -> Held:
        """Wait for a model that sleeps; raises Asleep."""
        holding, held = self._shared.holding, Held(at_most_s=_EVER_S, late=self._still_asleep)
        if self.patience.total_s is None:
            held.at_most_s = holding.at_most_s(self._held_s)
        size = min(self._request_size, self._service.switch.limits.window)
        self._held = holding.enter(resolved, size, lambda: held.then())
        return held

    def _still_asleep(self) -> FederationError:
        if self._held is None or self._resolved is None:
            return self._given_up("It waited in vain.")
        waited_s = self._held_s + self._service.now_s() - self._held.since_s
        return self._shared.holding.too_long(self._resolved, waited_s)

    @property
    def _inferring(self) -> bool:
        return self._rpc is None or self._rpc.name != "ModelMetadata"

    def _renaming(self, resolved: Resolved) -> Replacing:
        name = resolved.route.name
        versions = self._state.require_table().versions[name]
        return Replacing(lambda message: metadata_with(message, name, versions))

    def _resolve(self, named: Named) -> Resolved:
        return self._service.steps.resolve(self._caller, named.name, version_of(named))

    def _decide(self, resolved: Resolved) -> Decision:
        return self._service.steps.decide(
            resolved,
            self._caller,
            self._origin(),
            failed=self._failed,
            affinity=affinity.keys(self._session, b""),
        )

    @property
    def _session(self) -> str:
        return self._head.one(_SESSION)[:200].decode("latin-1")

    def _origin(self) -> Location | None:
        """Return from where distances are guessed: the router's own place, else the client's."""
        if self._state.location is not None:
            return self._state.location
        remote = self._inbound.remote if self._inbound else ""
        return self._service.location_of(remote, self._head.noted.get(b"x-forwarded-for", ()))

    def _spend_retry(self, decision: Decision) -> None:
        now_s = self._state.clock.monotonic_s()
        if not self._state.budget.allows(now_s, hopeful=not decision.desperate):
            raise self._given_up("It was not tried again: too many requests are retried now.")
        self._state.budget.spend(now_s)

    # ------------------------------------------------------------ what attempts come to

    def judge(self, answer: AnswerHead, *, alone: bool) -> Failure | None:
        """Return why the head of an answer is none."""
        if not alone and not (_REFUSED in answer.noted or _OUTCOME in answer.noted):
            return None
        if reason := answer.noted.get(_REFUSED, b""):
            said = reason[:40].decode("ascii", "replace")
            return Failure(kind=Kind.REFUSED, why=said, reason=said)
        if _OUTCOME in answer.noted:
            why = f"its engine failed under the call (status {answer.grpc_status.decode()})"
            return Failure(kind=Kind.BROKEN, why=why, reason=OUTCOME)
        if alone and answer.grpc_status == b"14" and _LOAD not in answer.noted:
            return Failure(kind=Kind.BROKEN, why="it answered that it is unavailable")
        return None

    def answer(self, answer: AnswerHead, *, first: bool, last: bool) -> bytes:
        """Return the header block to send on: the first one tells the way that the call took."""
        if not first or self._chosen is None or self._resolved is None:
            return answer.block
        now_s = self._service.now_s()
        if self._attempt is not None:
            waited_ms = (now_s - self._sent_s) * 1000
            load = load_of(answer) if answer.noted else None
            self._attempt.first_byte(waited_ms, load, now_s)
        self._answered_by, self._answered_s = self._chosen, now_s
        if self._failed:
            self._state.budget.refund(now_s)
            self._shared.metrics.failovers.inc()
        told = self._told if self._second is None else self._told + self._answered_one(now_s)
        chosen, resolved, attempts = self._chosen, self._resolved, len(self._failed) + 1
        if self._hedged is not None:
            attempts += self._hedged.given_up
        return answer.block + told + way_of(chosen, resolved, attempts)

    def lost(self, failure: Failure, *, again: bool) -> None:
        """An attempt failed; raises FederationError if it is not to be made again."""
        now_s = self._state.clock.monotonic_s()
        chosen = self._chosen
        if chosen is None:
            raise Unavailable(failure.why)
        failed = of_failure(failure, chosen)
        self._end_attempt(failed.ending, failed.reason, now_s, failed.status)
        self._failed = (*self._failed, failed)
        self._close_hedge(Outcome.BOTH_FAILED)
        why = "" if failure.nothing_done else self._unreplayable
        if not again:
            why = "its body was too large to be kept for another try, or memory for that was short"
        limits = Limits(deadline_s=self._deadline_s(), unreplayable=why)
        if reason := why_not(self._failed, limits, now_s):
            unreplayable = bool(why)
            raise self._given_up(f"It was not tried again: {reason}.", unreplayable=unreplayable)
