"""The short way of a request: from the client's bytes to the gateway's and back, in two callbacks.

Input: requests of tensors that came whole, on heads that were let in before. Output: the same bytes
to the gateway, the same answer, the same counts as `proxy` gives, without a coroutine. It takes a
request only if nothing stands in the way: a free place, room in the tenant's limits, a cluster that
can be had, an idle connection to it. Whatever happens then but a whole, good answer in one piece,
the request is handed over to `proxy` as it is, its attempt under way.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from federation.relay.forward import Deadlines, ForwardError, Upstream
from federation.relay.headers import response_headers
from federation.relay.http1.alike import Alike
from federation.relay.http1.client import ClientConnection
from federation.relay.http1.heads import RequestHead, parse_request
from federation.relay.http1.messages import Request
from federation.relay.http1.server import ServerConnection
from federation.relay.http1.waiting import NEVER
from router.policy.admission import Place
from router.policy.decision import Decision, Reason
from router.policy.hedging import Late
from router.policy.pick import pick
from router.policy.quota import Hold
from router.policy.retry import Limits
from router.policy.shortlist import Option
from router.policy.signals import Attempt
from router.policy.table import Resolved
from router.records import Scored
from router.request.answer import Answer
from router.request.body import Body, asks_nothing
from router.request.call import Call
from router.request.client_key import settle
from router.request.door import Door, Visit
from router.request.hedge import Hedges
from router.request.outgoing import own_fields as sent_fields
from router.request.responses import new_id, own_fields, sane_id
from router.request.shadow import Shadow
from router.request.shared import Shared
from router.request.steps import Steps
from router.request.ways import To, Way, Ways, beginning

MOST_BYTES = 256 * 1024  # of a body; larger ones do not come in one piece
_END = b"\r\n\r\n"
_LOADS = {b"%d" % load: load for load in range(1000)}  # as gateways write them


class QuickLane:
    """Takes requests the short way; `go_on` answers those that it hands over."""

    def __init__(
        self,
        shared: Shared,
        *,
        steps: Steps,
        door: Door,
        hedges: Hedges,
        go_on: "Callable[[Request, Flight], Coroutine[Any, Any, None]]",
    ) -> None:
        self.limits = limits = shared.limits
        self.state = shared.state
        self.upstreams = shared.upstreams
        self.steps = steps
        self.hedges = hedges
        self.go_on = go_on
        self.shadow: Shadow | None = None  # compares what canaries answer
        self.deadlines = Deadlines(
            connect_s=limits.connect_s, first_byte_s=limits.deadline_s, idle_s=limits.idle_s
        )
        self.clock_s = shared.state.clock.monotonic_s
        self.first_byte_s = limits.deadline_s
        self.metrics = shared.metrics
        self.admission = shared.admission
        self.ways = Ways(shared, steps=steps, door=door)
        self._most = min(MOST_BYTES, limits.replay_bytes, limits.body.max_bytes)

    def __repr__(self) -> str:
        return f"QuickLane({self.steps})"

    def offer(
        self, connection: ServerConnection, head: RequestHead, alike: Alike, raw: bytes, body: bytes
    ) -> "Flight | None":
        """Take a request, or do nothing and return None (`Application.quick`)."""
        started_s, state = self.clock_s(), self.state
        way: Any = alike.known
        if way is None or started_s >= way.until_s or way.table is not state.table:
            way = alike.known = self.ways.judge(connection, head, started_s)
            if not way:
                return None
        size = len(body)
        if size > self._most or not asks_nothing(body):
            return None
        resolved = way.resolved or self.ways.resolve(way)
        if resolved is None:
            return None
        admission, account = self.admission, way.account
        if not admission.take(size):
            return None  # the usual way says why
        if not account.take(started_s):
            admission.give_back(size)
            return None
        state.budget.request(started_s)
        return Flight(self, connection, way, started_s, (resolved, raw, body, alike.values))

    def over(self, flight: "Flight") -> tuple[Place, Hold]:
        """Return what a request holds, for who goes on with it."""
        visit = flight.visit()
        place = Place(self.admission, flight.size)
        return place, Hold(visit.caller.tenant, flight.way.account)


class Flight:
    """One request on the short way: what `proxy` needs to know of it if it has to go on. Of its
    places, limits, connection and attempt each is given back once, here or there."""

    __slots__ = (
        *("_body", "_connection", "_lane", "_raw", "_to", "_upstream", "_values", "_via"),
        *("attempt", "chosen", "hold", "place", "reason", "request_id", "resolved", "scored"),
        *("sent", "sent_s", "size", "started_s", "way"),
    )

    _to: To
    _upstream: Upstream
    _via: ClientConnection
    attempt: Attempt
    hold: Hold
    place: Place
    sent_s: float

    def __init__(
        self,
        lane: QuickLane,
        connection: ServerConnection,
        way: Way,
        started_s: float,
        seen: tuple[Resolved, bytes, bytes, list[bytes | None]],
    ) -> None:
        self._lane = lane
        self._connection = connection
        self.way = way
        self.started_s = started_s
        self.resolved, self._raw, self._body, self._values = seen
        self.size = len(self._body)
        self.chosen: Option | None = None
        self.reason: Reason | None = None
        self.scored: Scored = ()
        self.sent = False

    def __repr__(self) -> str:
        return f"Flight({self.request_id}, {self.chosen})"

    # ------------------------------------------------------------ on its way out

    def start(self) -> None:
        """Choose a cluster and send; hand over what cannot be sent at once."""
        lane, way, resolved, started_s = self._lane, self.way, self.resolved, self.started_s
        state, shown = lane.state, self._values[1]
        self.request_id = sane_id(shown.decode("latin-1")) if shown else new_id()
        if resolved.split is None:
            short = way.shorts.get(resolved.version) or lane.ways.short(way, resolved, started_s)
            picked = pick(short, state.signals, started_s, state.dice)
            if picked is None:
                self._hand_over()
                return
            self.chosen, self.reason, _ = picked
            chosen, self.scored = picked[0], short.scored
            self.sent_s = sent_s = lane.clock_s()
            lane.metrics.count_decision(picked[1], sent_s - started_s)
        else:
            decision = self._between(resolved)
            if decision.chosen is None:
                self._hand_over()
                return
            chosen, resolved, sent_s = decision.chosen, self.resolved, self.sent_s
        to = way.tos.get(chosen)
        via = None if to is None else to.channel.take()
        if via is None and (to is None or not to.channel.is_current):
            to = lane.ways.to(way, resolved, chosen)
            via = None if to is None else to.channel.take()
        if to is None or via is None:
            self._hand_over()
        else:
            self.attempt = Attempt(state.signals, chosen.lane, sent_s)
            self._send(to, via)

    def _send(self, to: To, via: ClientConnection) -> None:
        lane, sent_s = self._lane, self.sent_s
        self._to, self._via, self.sent = to, via, True
        to.waiting.add(self)
        via.exchange = self
        late_s, pace = lane.first_byte_s, to.pace
        if pace is not None:
            soon_s = pace.after_s
            if sent_s >= pace.until_s:
                soon_s = lane.hedges.renewed(self.resolved, pace, sent_s)
            late_s = soon_s if soon_s < late_s else late_s
        via.alarm.set(late_s)
        told, trace = to.channel.stock.header(), self._values[2]
        message: tuple[bytes, ...]
        if told is None and trace is None:
            size = self.size
            begin = to.upto_id if to.size == size else self.way.upto_id(to, size)
            message = begin, self.request_id.encode(), _END, self._body
        else:
            message = self._unusual(told, trace)
        self._connection.outbox.put(via, message)

    def _between(self, resolved: Resolved) -> Decision:
        """Choose between two versions, for a client that nothing tells from others: what would is
        in requests that go the usual way."""
        lane, way = self._lane, self.way
        resolved = settle(resolved, "", lane.state.dice, None, ())
        decision = lane.steps.decide(resolved, way.known.visit.caller, way.origin)
        self.chosen, self.reason, self.scored = decision.chosen, decision.reason, decision.scored
        self.resolved, self.sent_s = decision.resolved, lane.clock_s()
        return decision

    def _unusual(self, told: tuple[str, str] | None, trace: bytes | None) -> tuple[bytes, ...]:
        """Return the request as it is sent, with all that it may have."""
        start = self._to.start
        if told is not None:
            start += f"{told[0]}: {told[1]}\r\n".encode()
        traced = trace.decode("latin-1") if trace and self.way.traced else ""
        length = b"Content-Length: %d\r\n" % self.size
        own = sent_fields(self.request_id, traced)
        return start, length, self.way.passed, own, b"\r\n", self._body

    # ------------------------------------------------------------ what the connection brings

    def feed(self, data: bytes) -> None:
        """Take an answer, if it came whole and is good."""
        via = self._via
        alike = via.alike
        raw = b"" if alike is None else alike.begins(data)
        if not raw:
            raw = data[: data.find(_END) + 4]
            found = via.like_before(raw) if len(raw) > 3 else None
            alike = None if found is None else found[1]
            if found is not None and found[1].known is None:
                found[1].known = beginning(found[0])
        if alike is not None:
            good: Any = alike.known
            size = alike.length
            if good and size >= 0 and len(data) == len(raw) + size:
                self._answer(good, alike.values[1], data[-size:] if size else b"")
                return
        upstream = self._resume()
        upstream.feed(data)
        self._go_on(upstream)

    def lost(self, error: Exception | None) -> None:
        """The connection to the cluster ended."""
        upstream = self._resume()
        upstream.lost(error)
        self._go_on(upstream)

    def expired(self) -> None:
        """The cluster did not answer yet: another one is to be asked, too, or it is too late."""
        lane, asked = self._lane, cast(Option, self.chosen)
        until_s = self.started_s + lane.deadlines.first_byte_s
        pace = lane.hedges.pace(self.resolved)
        late = Late(asked=asked, sent_s=self.sent_s, deadline_s=until_s, pace=pace)
        wait_s = lane.hedges.wait_s(lane.ways.short(self.way, self.resolved, self.sent_s), late)
        if wait_s > 0.0:
            self._via.alarm.set(wait_s)
            return
        upstream = self._resume()
        if wait_s < 0.0:
            upstream.expired()
        self._go_on(upstream)

    def give_up(self, error: ForwardError) -> None:
        """The cluster was given up."""
        upstream = self._resume()
        upstream.give_up(error)
        self._go_on(upstream)

    def abandon(self) -> None:
        """The client is gone."""
        self._go_on(self._resume())

    def _answer(self, good: bytes, load: bytes | None, body: bytes) -> None:
        lane, way, to, chosen = self._lane, self.way, self._to, cast(Option, self.chosen)
        started_s, sent_s, via = self.started_s, self.sent_s, self._via
        to.waiting.discard(self)
        via.alarm.due_s = NEVER
        to.channel.release(via)
        if self.resolved.split is not None:
            self._compare(chosen, body)
        told = _LOADS.get(load) if load else None
        if told is None and load and len(load) < 7 and load.isdigit():
            told = int(load)
        now_s = lane.steps.went_well(self.attempt, self.resolved, chosen, told, sent_s)
        lane.admission.give_back(self.size)
        account = way.account
        account.give_back()
        state, tally, request_id = lane.state, to.tally, self.request_id
        if tally is None or way.table is not state.table:
            tally = lane.steps.tally(way.known.visit.caller, self.resolved, chosen, 200)
            to.tally = tally
        state.requests_total += 1
        tally.add(now_s - started_s)
        who, why = way.who, self.reason
        state.records.keep(
            (request_id, now_s, started_s, who, self.resolved, chosen, why, self.scored, 200, ())
        )
        timing_ms = (sent_s - started_s) * 1000.0, (now_s - sent_s) * 1000.0
        last = account.fields(now_s) + to.length_line(len(body))
        head = own_fields(good + to.told, timing_ms, request_id, last)
        self._connection.answer(head, body)

    def _compare(self, chosen: Option, body: bytes) -> None:
        """Let what a canary answered be compared, if it is in the sample."""
        lane, head, resolved = self._lane, self._via.head, self.resolved
        if head is None or lane.shadow is None or not lane.shadow.wants(resolved):
            return
        self.place, self.hold = lane.over(self)  # both are given back by `_answer`
        request = Request(self._connection, parse_request(self._raw), None)
        headers = response_headers(head.headers)
        answer = Answer(
            status=head.status, headers=headers, first=body, rest=None, length=len(body)
        )
        lane.shadow.take(self.call(request, self.visit()), resolved, chosen, answer)

    # ------------------------------------------------------------ handing over

    def _resume(self) -> Upstream:
        return self._to.channel.resume(self._via, self._lane.deadlines)

    def _go_on(self, upstream: Upstream) -> None:
        self._to.waiting.discard(self)
        self._upstream = upstream
        self._hand_over()

    def _hand_over(self) -> None:
        self.place, self.hold = self._lane.over(self)
        self._connection.hand_over(self._raw, self._respond)

    def _respond(self, request: Request) -> Coroutine[Any, Any, None]:
        return self._lane.go_on(request, self)

    def visit(self) -> Visit:
        """Return who asks for what."""
        return self.way.known.visit.named(self.request_id)

    def call(self, request: Request, visit: Visit) -> Call:
        """Return the request as the usual way has it: it was looked at for all that is unusual."""
        deadline_s = self.started_s + self._lane.limits.deadline_s
        return Call(
            request=request,
            visit=visit,
            hold=self.hold,
            started_s=self.started_s,
            body=Body(self._body),
            reference=visit.target.model,
            limits=Limits(deadline_s=deadline_s, may_hedge=True),
            own_deadline=False,
            resolved=self.resolved if self.chosen is not None else None,
        )

    def answered(self) -> Awaitable[Upstream]:
        """Return the wait for the answer to what was sent."""
        left_s = self._lane.deadlines.first_byte_s - (self._lane.clock_s() - self.sent_s)
        channel = self._to.channel
        return channel.answered(self._upstream, self._to.waiting, max(left_s, 0.001))
