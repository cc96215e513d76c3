"""One attempt of a request: to one cluster, as far as the head of its answer.

Input: a request, and the cluster that was chosen. Output: an answer that has begun, or why there is
none; and what the attempt showed, told to the signals once, whatever happens.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, replace

from federation.relay.forward import Deadlines, ForwardError, Outgoing, Upstream
from federation.relay.headers import LOAD_HEADER
from federation.relay.paths import gateway_path
from router.counting import LEFT
from router.policy.retry import Failed
from router.policy.shortlist import Option
from router.policy.signals import Attempt
from router.policy.table import Resolved
from router.request import answer as answers
from router.request import verdict
from router.request.answer import Answer
from router.request.call import Call, ProxyLimits
from router.request.outgoing import own_fields, passed_fields, plain_fields, resolved_fields
from router.request.quick import Flight
from router.request.steps import Steps, load_of
from router.state import RouterState
from router.upstream.http import Upstreams


@dataclass(slots=True, kw_only=True)
class Leg:
    """An attempt on its way. `flight` has sent it already, if there is one; `alone`, whether no
    other attempt of the request is under way. `status` is what it counts as."""

    resolved: Resolved
    chosen: Option
    attempt: Attempt
    sent_s: float
    flight: Flight | None = None
    alone: bool = True
    upstream: Upstream | None = None
    answer: Answer | None = None
    answered_s: float = 0.0
    failed: Failed | None = None
    status: int = LEFT
    is_the_one: bool = False  # the client gets its answer
    ended: bool = False

    @property
    def begun(self) -> Answer:
        """The answer, once it has begun."""
        if self.answer is None:
            raise ValueError(f"{self} has no answer")
        return self.answer

    def __repr__(self) -> str:
        return f"Leg({self.chosen.cluster}, {self.failed or self.answer or 'under way'})"


class Attempts:
    """Makes the attempts of a router."""

    def __init__(
        self, *, state: RouterState, steps: Steps, upstreams: Upstreams, limits: ProxyLimits
    ) -> None:
        self._state = state
        self._steps = steps
        self._upstreams = upstreams
        self._limits = limits

    def __repr__(self) -> str:
        return f"Attempts({self._upstreams})"

    def begin(
        self, call: Call, resolved: Resolved, chosen: Option, flight: Flight | None = None
    ) -> Leg:
        """Count an attempt; it must be ended. Raises PermissionDenied if the request would leave
        where it must stay."""
        if flight is not None:
            attempt, sent_s = flight.attempt, flight.sent_s
        else:
            sent_s = self._state.clock.monotonic_s()
            attempt = self._steps.begin(chosen, resolved, call.caller, sent_s)
        return Leg(resolved=resolved, chosen=chosen, attempt=attempt, sent_s=sent_s, flight=flight)

    async def answer(self, call: Call, leg: Leg) -> None:
        """Send, and wait until an answer has begun or the attempt failed."""
        cluster = leg.chosen.cluster
        try:
            upstream = leg.upstream = await self._start(call, leg)
            last = (  # which only a refusal asks for
                upstream.status >= 400
                and leg.alone
                and call.is_last_attempt(self._state.require_table())
            )
            leg.failed = await verdict.of_answer(upstream, cluster, last=last)
            if leg.failed is None:
                answer = await answers.begin(upstream)
                load = load_of(upstream.headers.get(LOAD_HEADER, ""))
                leg.answered_s = self._steps.answered(
                    leg.attempt, upstream.status, load, leg.sent_s
                )
                leg.answer, leg.status = answer, answer.status
        except ForwardError as error:
            leg.failed = verdict.of_error(error, cluster, own_deadline=call.own_deadline)
        if leg.failed is not None:
            leg.failed = replace(leg.failed, version=leg.resolved.version)
            leg.status = leg.failed.status

    def end(self, leg: Leg, *, outrun: bool = False) -> None:
        """An attempt is over, or given up; a second call changes nothing. `outrun`: another one was
        answered first."""
        if leg.ended:
            return
        leg.ended = True
        if leg.upstream is not None:
            leg.upstream.close()
        now_s = self._state.clock.monotonic_s()
        if outrun:
            leg.attempt.outrun(now_s)
        status = leg.status if leg.is_the_one or leg.failed is not None else LEFT
        seen = (leg.resolved, leg.chosen, status, (leg.answered_s or now_s) - leg.sent_s)
        self._steps.ended(leg.attempt, leg.failed, now_s, answered=leg.is_the_one, seen=seen)

    def _start(self, call: Call, leg: Leg) -> Awaitable[Upstream]:
        if leg.flight is not None:
            return leg.flight.answered()
        resolved, chosen = leg.resolved, leg.chosen
        model, version = resolved.route.name, resolved.version
        metered = call.meter and call.caller.tenant.tokens_per_minute
        passed, trace = (plain_fields if metered else passed_fields)(call.request.head)
        fields = passed + own_fields(call.request_id, trace)
        if call.model_in_body:
            fields += resolved_fields(model, version)
        outgoing = Outgoing(
            method=call.request.method,
            url=self._upstreams.base(chosen.cluster, chosen.url)
            + gateway_path(call.target.verb, model, version),
            fields=fields,
            body=call.body.outgoing(),
            length=call.body.length,
        )
        deadlines = Deadlines(
            connect_s=self._limits.connect_s,
            first_byte_s=max(call.limits.deadline_s - leg.sent_s, 0.001),
            idle_s=self._limits.idle_s,
        )
        return self._upstreams.start(chosen.cluster, outgoing, deadlines)
