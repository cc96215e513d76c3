"""One inference request, from the client to a cluster and back: read it from top to bottom.

Input: HTTP requests from clients, the routing table and the signals. Output: answers of clusters as
they come, and what each attempt showed, told to the signals. Every decision is made by
`router.policy`; this module performs it.
"""

import logging
from collections.abc import Sequence

from federation.contract.errors import (
    DeadlineExceeded,
    Exhausted,
    FederationError,
    Invalid,
    Unavailable,
)
from federation.contract.types import Location
from federation.relay.application import Application, make_application
from federation.relay.bodies import check_length
from federation.relay.errors import error_response
from federation.relay.forward import Deadlines, ForwardError, Outgoing, Upstream
from federation.relay.headers import (
    LOAD_HEADER,
    MODEL_HEADER,
    REQUEST_ID_HEADER,
    VERSION_HEADER,
)
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.paths import InferenceVerb, gateway_path
from router import answer as answers
from router import responses, verdict
from router.call import DEADLINE_HEADER, Call, ProxyLimits, read_call
from router.door import Door, Visit
from router.geo import Locator
from router.grpc.shared import Shared
from router.holding import RETRY_AFTER_S, Asleep, Holding, sleeps, why_asleep
from router.metrics import Metrics
from router.policy import residency
from router.policy.access import Caller
from router.policy.admission import Admission
from router.policy.decision import Decision, Question, Reason
from router.policy.pick import decide
from router.policy.quota import OverQuota, Quotas
from router.policy.retry import Failed, why_not
from router.policy.shortlist import Option
from router.policy.signals import Attempt, Ending
from router.policy.table import Resolved, RoutingTable
from router.state import RouterState
from router.upstream.http import Upstreams

log = logging.getLogger(__name__)
_PLACES = 1024  # of clients that are remembered


class Proxy:
    """The public side of a router."""

    def __init__(
        self,
        *,
        state: RouterState,
        upstreams: Upstreams,
        metrics: Metrics,
        locator: Locator,
        admission: Admission,
        limits: ProxyLimits | None = None,
    ) -> None:
        self._state = state
        self._upstreams = upstreams
        self._metrics = metrics
        self._locator = locator
        self._admission = admission
        self._limits = limits or ProxyLimits()
        self._holding = Holding(state=state, metrics=metrics, limits=self._limits.holding)
        self._quotas = Quotas()
        self._door = Door(state=state, quotas=self._quotas)
        self._resolved: dict[tuple[Caller, str, int | None], Resolved] = {}  # by this table:
        self._resolved_by: RoutingTable | None = None
        self._places: dict[tuple[str, ...], Location | None] = {}  # where clients are
        state.on_swap.append(self._forget_tenants)

    def shared(self) -> Shared:
        """Return what gRPC shares with HTTP here."""
        return Shared(
            state=self._state,
            upstreams=self._upstreams,
            metrics=self._metrics,
            locator=self._locator,
            admission=self._admission,
            quotas=self._quotas,
            holding=self._holding,
            limits=self._limits,
        )

    def __repr__(self) -> str:
        return f"Proxy({self._door}, {self._admission}, {self._quotas}, {self._state})"

    def application(self) -> Application:
        """Return an application that hands every request with a sound head to `handle`."""
        return make_application(
            self.handle, admit=self._admit, refuse=self._refuse, stall_s=self._limits.stall_s
        )

    # ------------------------------------------------------------ step by step

    async def handle(self, request: Request) -> StreamResponse:
        """Answer a request that `_admit` let in; raises FederationError, which `_refuse` words."""
        visit = self._door.visit(request)
        if visit is None:
            return Response(text="ok")  # a health check
        return self._own(visit, request) or await self._infer(request, visit)

    def _admit(self, request: Request) -> None:
        """Judge a request by its head alone, before its body is asked for or read."""
        self._door.admit(request)
        check_length(request, self._limits.body)

    def _own(self, visit: Visit, request: Request) -> Response | None:
        """Answer what needs no cluster."""
        match visit.target.verb:
            case InferenceVerb.SERVER:
                return responses.server_metadata()
            case InferenceVerb.SERVER_LIVE:
                return responses.json_response({"live": True})
            case InferenceVerb.READY:
                return self._model_ready(visit, request)
            case InferenceVerb.SERVER_READY | InferenceVerb.MODELS | InferenceVerb.MODEL:
                table = self._state.require_table()
                return responses.from_table(visit.target, table, visit.caller.may_use)
            case _:
                return None

    def _model_ready(self, visit: Visit, request: Request) -> Response:
        target, table = visit.target, self._state.require_table()
        resolved = table.resolve(target.model, target.version, visit.caller.may_use)
        decision = self._decide(resolved, request, visit.caller, [])
        if decision.chosen is None or decision.desperate:
            why = why_asleep(resolved) if sleeps(resolved) else decision.why
            raise Invalid(f"Model {target.model!r} is not ready: {why}", reason="not-ready")
        return responses.json_response({"name": target.model, "ready": True})

    async def _infer(self, request: Request, visit: Visit) -> StreamResponse:
        started_s = self._state.clock.monotonic_s()
        call: Call | None = None
        status = 499  # the client left
        try:
            with (
                self._admission.place() as place,
                self._quotas.hold(visit.caller.tenant, started_s) as hold,
            ):
                call = await read_call(
                    request, visit, hold, started_s=started_s, limits=self._limits, keep=place.keep
                )
                response = await self._serve(call)
                status = response.status
                return response
        except FederationError as error:
            response = self._refuse(request, error, call)
            status = response.status
            return response
        finally:
            self._count(visit.caller, call, status, started_s)

    async def _serve(self, call: Call) -> StreamResponse:
        """Choose a cluster and send, again elsewhere if it fails before a byte was answered."""
        state = self._state
        state.budget.request(call.started_s)
        while True:
            table = state.require_table()
            call.resolved = self._resolve(call, table)
            decision = self._decide(
                call.resolved, call.request, call.caller, call.failed, call.affinity
            )
            if decision.chosen is None:
                if not sleeps(call.resolved):
                    raise self._given_up(call, decision.why, full=decision.reason is Reason.FULL)
                await self._holding.wait(call, call.resolved)
                continue
            if call.failed:
                self._spend_retry(call, decision)
            outcome = await self._attempt(call, call.resolved, decision.chosen)
            if not isinstance(outcome, Failed):
                return outcome
            call.failed.append(outcome)
            if reason := why_not(call.failed, call.limits, state.clock.monotonic_s()):
                raise self._given_up(call, f"It was not tried again: {reason}.")

    def _resolve(self, call: Call, table: RoutingTable) -> Resolved:
        """Find the model, and refuse what this caller or this model does not take."""
        key = (call.caller, call.reference, call.target.version)
        if self._resolved_by is not table:
            self._resolved_by, self._resolved = table, {}
        resolved = self._resolved.get(key)
        if resolved is None:
            call.caller.check_model(call.reference)
            resolved = table.resolve(call.reference, call.target.version, call.caller.may_use)
            self._resolved[key] = resolved
        call.check_protocol(resolved)
        call.expect_tokens(resolved, self._state.clock.monotonic_s())
        return resolved

    def _decide(
        self,
        resolved: Resolved,
        request: Request,
        caller: Caller,
        failed: list[Failed],
        affinity: Sequence[int] = (),
    ) -> Decision:
        residency.check(resolved.route, caller.regions)
        state = self._state
        now_s = state.clock.monotonic_s()
        question = Question(
            resolved=resolved,
            now_s=now_s,
            failed=[f.cluster for f in failed],
            regions=caller.regions,
            affinity=affinity,
            origin=state.location or self._client_location(request),
        )
        decision = decide(state.require_table(), state.signals, question, state.dice)
        self._metrics.decision.observe(state.clock.monotonic_s() - now_s)
        self._metrics.decisions.labels(decision.reason).inc()
        return decision

    def _client_location(self, request: Request) -> Location | None:
        shown = request.headers.getall("x-forwarded-for", ())
        key = (request.remote, *shown)
        if key in self._places:
            return self._places[key]
        place = self._locator.locate(self._locator.client_address(request.remote, shown))
        if len(self._places) >= _PLACES:
            self._places.clear()
        location = self._places[key] = place.location if place else None
        return location

    def _spend_retry(self, call: Call, decision: Decision) -> None:
        now_s = self._state.clock.monotonic_s()
        if not self._state.budget.allows(now_s, hopeful=not decision.desperate):
            why = "It was not tried again: too many requests are retried now."
            call.budget_spent = True
            raise self._given_up(call, why)
        self._state.budget.spend(now_s)

    async def _attempt(
        self, call: Call, resolved: Resolved, chosen: Option
    ) -> StreamResponse | Failed:
        """Send to one cluster; whatever happens, the attempt is ended once."""
        residency.assure(resolved.route, call.caller.regions, chosen)
        clock, model, version = self._state.clock, resolved.route.name, resolved.version
        sent_s = clock.monotonic_s()
        attempt = self._state.signals.begin(chosen.cluster, model, version, sent_s)
        failed: Failed | None = None
        try:
            outgoing = self._outgoing(call, resolved, chosen)
            deadlines = Deadlines(
                connect_s=self._limits.connect_s,
                first_byte_s=max(call.limits.deadline_s - sent_s, 0.001),
                idle_s=self._limits.idle_s,
            )
            async with self._upstreams.send(
                chosen.cluster, outgoing, deadlines=deadlines
            ) as upstream:
                last = call.is_last_attempt(self._state.require_table())
                failed = await verdict.of_answer(upstream, chosen.cluster, last=last)
                if failed is None:
                    answer = await answers.begin(upstream)
                    self._note_answer(call, attempt, upstream, sent_s)
                    call.answered_by = chosen
                    self._dress(call, resolved, chosen, answer, sent_s)
                    if call.meter and answer.status < 400:
                        answer.see = call.meter.see
                    return await answers.relay(call.request, answer, self._limits.stall_s)
        except ForwardError as error:
            failed = verdict.of_error(error, chosen.cluster, own_deadline=call.own_deadline)
        finally:
            ending = Ending.ABANDONED if failed is None else failed.ending
            attempt.end(ending, "" if failed is None else failed.reason, clock.monotonic_s())
            call.note_usage()
            self._metrics.count_attempt("answered" if call.answered_by else ending)
        return failed

    def _outgoing(self, call: Call, resolved: Resolved, chosen: Option) -> Outgoing:
        model, version = resolved.route.name, resolved.version
        extra = {REQUEST_ID_HEADER: call.request_id}
        if call.model_in_body:
            extra |= {MODEL_HEADER: model, VERSION_HEADER: str(version)}
        if call.meter and call.caller.tenant.tokens_per_minute:
            extra["Accept-Encoding"] = "identity"  # a compressed answer cannot be metered
        base = self._upstreams.base(chosen.cluster, chosen.url)
        return Outgoing(
            method=call.request.method,
            url=base + gateway_path(call.target.verb, model, version),
            headers=call.request.passed_headers(extra),
            body=call.body.outgoing(),
            length=call.body.length,
        )

    def _note_answer(self, call: Call, attempt: Attempt, upstream: Upstream, sent_s: float) -> None:
        now_s = self._state.clock.monotonic_s()
        failed, took_ms = upstream.status >= 500, (now_s - sent_s) * 1000
        attempt.first_byte(took_ms, _load(upstream), now_s, failed=failed)
        if upstream.status in (429, 503):
            attempt.overloaded(now_s)
        if call.failed:
            self._state.budget.refund(now_s)
            self._metrics.failovers.inc()

    def _dress(
        self,
        call: Call,
        resolved: Resolved,
        chosen: Option,
        answer: answers.Answer,
        sent_s: float,
    ) -> None:
        """Add what the client may know of the way, and the federation's versions to metadata."""
        now_s = self._state.clock.monotonic_s()
        timing_ms = ((sent_s - call.started_s) * 1000, (now_s - sent_s) * 1000)
        attempts = len(call.failed) + 1
        told = responses.told(chosen, resolved.version, attempts, timing_ms)
        told[REQUEST_ID_HEADER] = call.request_id
        told.update(call.hold.headers(now_s))
        answer.headers.update(told)
        is_metadata = call.target.verb is InferenceVerb.METADATA and answer.status == 200
        if is_metadata and answer.rest is None:
            table = self._state.require_table()
            answer.first = responses.routable_metadata(answer.first, table, resolved.route)

    def _given_up(self, call: Call, why: str, *, full: bool = False) -> FederationError:
        """Say what was tried, why no more, and what the client can do."""
        story = "; ".join(f"{f.cluster}: {f.reason}" for f in call.failed)
        what = f"version {call.resolved.version} of " if call.resolved else ""
        message = f"No cluster answered for {what}{call.reference!r}"
        message = f"{message} ({story}). {why}" if story else why
        if full or (call.failed and all(f.reason == "saturated" for f in call.failed)):
            return Exhausted(message, hint="Try again in a second.", reason="saturated")
        if self._state.clock.monotonic_s() >= call.limits.deadline_s:
            return DeadlineExceeded(message, hint=f"Allow more time with {DEADLINE_HEADER}.")
        reason = "not-replayable" if call.failed and call.limits.unreplayable else "no-replica"
        return Unavailable(message, hint="Try again in a moment.", reason=reason)

    def _refuse(
        self, request: Request, error: FederationError, call: Call | None = None
    ) -> Response:
        """Return an error in the dialect of the request's path, with what helps its client."""
        self._metrics.refused.labels(error.reason).inc()
        response, visit = error_response(request.path, error), self._door.visit(request)
        now_s = self._state.clock.monotonic_s()
        if isinstance(error, Asleep):
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        if isinstance(error, OverQuota):
            response.headers["Retry-After"] = str(error.retry_after_s)
            response.headers.update(error.hold.headers(now_s))
        if call is not None:
            response.headers.update(call.hold.headers(now_s))
            response.headers["x-fed-attempts"] = str(len(call.failed))
        response.headers[REQUEST_ID_HEADER] = (
            visit.request_id if visit else responses.request_id(request.headers)
        )
        if error.reason == "not-replayable" or (call is not None and call.budget_spent):
            response.headers["x-should-retry"] = "false"
        return response

    def _forget_tenants(self, table: RoutingTable) -> None:
        self._quotas.retain(table.access.callers)
        self._metrics.retain_tenants(table.access.callers)

    def _count(self, caller: Caller, call: Call | None, status: int, started_s: float) -> None:
        self._state.requests_total += 1
        self._state.errors_total += status >= 500
        model = call.resolved.route.name if call and call.resolved else ""
        by = call.answered_by if call else None
        self._metrics.count(
            (model, by.region if by else "", by.cluster if by else ""),
            caller.tenant.name,
            status,
            call.hold.used if call else 0,
            self._state.clock.monotonic_s() - started_s,
        )


def _load(upstream: Upstream) -> int | None:
    """Return the requests in flight that the gateway reports; what is no sane number is none."""
    text = upstream.headers.get(LOAD_HEADER, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
