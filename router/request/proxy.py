"""One inference request, from the client to a cluster and back: read it from top to bottom.

Input: HTTP requests from clients, the routing table and the signals. Output: answers of clusters as
they come, and what each attempt showed, told to the signals. Every decision is made by
`router.policy`; this module performs it.
"""

from collections.abc import Coroutine
from typing import Any

from federation.contract.errors import (
    DeadlineExceeded,
    Exhausted,
    FederationError,
    Invalid,
    Unavailable,
)
from federation.relay.application import Application, make_application
from federation.relay.bodies import check_length
from federation.relay.errors import error_response
from federation.relay.headers import REQUEST_ID_HEADER
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.paths import InferenceVerb
from router.geo import Locator
from router.metrics.requests import Metrics
from router.policy import hedging
from router.policy.admission import Admission
from router.policy.decision import Decision, Reason
from router.policy.hedging import NEVER_S, Outcome
from router.policy.quota import OverQuota, Quotas
from router.policy.retry import why_not
from router.policy.shortlist import Option
from router.policy.table import Resolved, RoutingTable
from router.request import answer as answers
from router.request import responses
from router.request.attempts import Attempts, Leg
from router.request.call import DEADLINE_HEADER, STEER_HEADER, Call, ProxyLimits, read_call
from router.request.client_key import of_call
from router.request.door import Door, Visit
from router.request.hedge import HEDGED_HEADER, Hedges
from router.request.holding import RETRY_AFTER_S, Asleep, Holding, sleeps, why_asleep
from router.request.quick import Flight, QuickLane
from router.request.race import Race
from router.request.shadow import Shadow
from router.request.shared import Shared
from router.request.steps import Steps
from router.state import RouterState
from router.upstream.http import Upstreams


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
        self._quotas = Quotas(state.share)
        self.shadow = Shadow(state=state, upstreams=upstreams)
        self._door = Door(state=state, quotas=self._quotas)
        self._steps = Steps(state=state, metrics=metrics, locator=locator)
        self._hedges = Hedges(state=state, metrics=metrics)
        self._attempts = Attempts(
            state=state, steps=self._steps, upstreams=upstreams, limits=self._limits
        )
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
        application = make_application(
            self.handle, admit=self._admit, refuse=self._refuse, stall_s=self._limits.stall_s
        )

        def go_on(request: Request, flight: Flight) -> Coroutine[Any, Any, None]:
            request.kept = visit = flight.visit()
            return application.respond(request, self._infer(request, visit, flight))

        lane = QuickLane(
            self.shared(), steps=self._steps, door=self._door, hedges=self._hedges, go_on=go_on
        )
        lane.shadow = self.shadow
        application.quick = lane.offer
        return application

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
        if STEER_HEADER in request.headers and (visit := self._door.visit(request)):
            self._steps.steering.redirect(visit, request)

    def _own(self, visit: Visit, request: Request) -> Response | None:
        """Answer what needs no cluster."""
        match visit.target.verb:
            case InferenceVerb.SERVER:
                return responses.server_metadata()
            case InferenceVerb.SERVER_LIVE:
                return responses.json_response({"live": True})
            case InferenceVerb.READY:
                return self._model_ready(visit, request)
            case InferenceVerb.NEAREST:
                return self._steps.steering.nearest(visit, request)
            case InferenceVerb.SERVER_READY | InferenceVerb.MODELS | InferenceVerb.MODEL:
                table = self._state.require_table()
                return responses.from_table(visit.target, table, visit.caller.may_use)
            case _:
                return None

    def _model_ready(self, visit: Visit, request: Request) -> Response:
        target = visit.target
        steps, caller = self._steps, visit.caller
        resolved = steps.resolve(caller, target.model, target.version)
        decision = steps.decide(resolved, caller, steps.origin(request.remote, request.headers))
        if decision.chosen is None or decision.desperate:
            why = why_asleep(resolved) if sleeps(resolved) else decision.why
            raise Invalid(f"Model {target.model!r} is not ready: {why}", reason="not-ready")
        return responses.json_response({"name": target.model, "ready": True})

    async def _infer(
        self, request: Request, visit: Visit, begun: Flight | None = None
    ) -> StreamResponse:
        """Answer a request for a cluster; one that `quick` has `begun` already goes on here."""
        started_s = begun.started_s if begun else self._state.clock.monotonic_s()
        call: Call | None = None
        place, hold = (begun.place, begun.hold) if begun else (None, None)
        status = 499  # the client left
        try:
            if begun is not None:
                call = begun.call(request, visit)
            else:
                place = self._admission.enter()
                hold = self._quotas.enter(visit.caller.tenant, started_s)
                call = await read_call(
                    request, visit, hold, started_s=started_s, limits=self._limits, keep=place.keep
                )
                self._state.budget.request(started_s)
            response: StreamResponse = await self._serve(call, begun)
            status = response.status
        except FederationError as error:
            response = self._refuse(request, error, call)
            status = response.status
        finally:
            if hold is not None:
                hold.leave()
            if place is not None:
                place.leave()
            self._steps.count(
                visit.caller,
                call.resolved if call else None,
                call.answered_by if call else None,
                status=status,
                tokens=call.hold.used if call else 0,
                took_s=self._state.clock.monotonic_s() - started_s,
            )
            self._steps.keep_record(request, visit, call, status, started_s)
        return response

    async def _serve(self, call: Call, begun: Flight | None) -> StreamResponse:
        """Choose a cluster and send, again elsewhere if it fails before a byte was answered."""
        while True:
            failed = len(call.failed)
            response = await self._next_attempt(call, begun)
            if response is not None:
                return response
            begun = None
            if len(call.failed) == failed:
                continue  # the model slept
            if reason := why_not(call.failed, call.limits, self._state.clock.monotonic_s()):
                raise self._given_up(call, f"It was not tried again: {reason}.")

    async def _next_attempt(self, call: Call, begun: Flight | None) -> StreamResponse | None:
        if begun is not None and begun.chosen is not None:
            sent = begun if begun.sent else None
            call.picked = begun.chosen, begun.reason, begun.scored
            return await self._attempt(call, begun.resolved, begun.chosen, sent)
        call.resolved = self._resolve(call)
        decision = self._decide(call, call.resolved, careful=begun is not None)
        call.picked = decision.chosen, decision.reason, decision.scored
        if decision.chosen is None:
            if not sleeps(call.resolved):
                raise self._given_up(call, decision.why, full=decision.reason is Reason.FULL)
            await self._holding.wait(call, call.resolved)
            return None
        if call.failed:
            self._spend_retry(call, decision)
        call.resolved = decision.resolved
        return await self._attempt(call, call.resolved, decision.chosen)

    def _resolve(self, call: Call) -> Resolved:
        """Find the model, and refuse what this caller or this model does not take."""
        resolved = self._steps.resolve(call.caller, call.reference, call.target.version)
        call.check_protocol(resolved)
        call.expect_tokens(resolved, self._state.clock.monotonic_s())
        return resolved if resolved.split is None else of_call(call, resolved, self._state.dice)

    def _decide(self, call: Call, resolved: Resolved, *, careful: bool) -> Decision:
        return self._steps.decide(
            resolved,
            call.caller,
            self._steps.origin(call.request.remote, call.request.headers),
            failed=call.failed,
            affinity=call.affinity,
            careful=careful,
        )

    def _spend_retry(self, call: Call, decision: Decision) -> None:
        now_s = self._state.clock.monotonic_s()
        if not self._state.budget.allows(now_s, hopeful=not decision.desperate):
            why = "It was not tried again: too many requests are retried now."
            call.budget_spent = True
            raise self._given_up(call, why)
        self._state.budget.spend(now_s)

    async def _attempt(
        self, call: Call, resolved: Resolved, chosen: Option, begun: Flight | None = None
    ) -> StreamResponse | None:
        """Send to one cluster, and to a second one if the answer is late; None: it failed. Whatever
        happens, the attempt is ended once."""
        leg: Leg | None
        first = leg = self._attempts.begin(call, resolved, chosen, begun)
        try:
            after_s = NEVER_S
            if call.hedged is None and hedging.may_be(call.limits, len(call.failed)):
                after_s = self._hedges.after_s(resolved, first.sent_s)
            if after_s < NEVER_S:
                race = Race(self._hedges, self._attempts, self._steps, call)
                leg = await race.run(first, after_s)
            else:
                await self._attempts.answer(call, first)
                first.is_the_one = first.failed is None
                call.failed += [first.failed] if first.failed else []
            return await self._pass_on(call, leg) if leg is not None and leg.is_the_one else None
        finally:
            self._attempts.end(first)
            if leg is not None:
                self._attempts.end(leg)
            call.note_usage()

    async def _pass_on(self, call: Call, leg: Leg) -> StreamResponse:
        """Send an answer that has begun to the client."""
        answer, resolved = leg.begun, leg.resolved
        if call.failed:
            self._steps.answered_elsewhere()
        call.answered_by = leg.chosen
        self._dress(call, resolved, leg.chosen, answer, leg.sent_s)
        if call.meter and answer.status < 400:
            answer.see = call.meter.see
        response = await answers.relay(call.request, answer, self._limits.stall_s)
        if answer.broken:
            leg.status = 502
        if resolved.split is not None and self.shadow.wants(resolved):
            self.shadow.take(call, resolved, leg.chosen, answer)
        return response

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
        way = responses.way_fields(chosen, resolved, call.attempts)
        if call.hedged is not None and call.hedged.outcome is not Outcome.BOTH_FAILED:
            way += f"{HEDGED_HEADER}: {call.hedged.outcome}\r\n".encode()
        way += self._steps.steer(call.request, resolved, call.caller)
        told = responses.own_fields(way, timing_ms, call.request_id, call.hold.fields(now_s))
        responses.set_fields(answer.headers, told)
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
