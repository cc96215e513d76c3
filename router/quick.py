"""The short way of a request: from the client's bytes to the gateway's and back, in two callbacks.

Input: requests of tensors that came whole, on heads that were let in before. Output: the same bytes
to the gateway, the same answer, the same counts as `proxy` gives, without a coroutine. It takes a
request only if nothing stands in the way: a free place, room in the tenant's limits, a cluster that
can be had, an idle connection to it. Whatever happens then but a whole, good answer in one piece,
the request is handed over to `proxy` as it is, its attempt under way.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

from federation.contract.errors import FederationError
from federation.contract.types import Location
from federation.relay.forward import Deadlines, ForwardError, Lease, Sending, Upstream
from federation.relay.headers import OUTCOME_HEADER, REFUSED_HEADER, lines, response_headers
from federation.relay.http1.alike import Alike
from federation.relay.http1.heads import RequestHead, ResponseHead
from federation.relay.http1.messages import FIRST, Request
from federation.relay.http1.server import ServerConnection
from federation.relay.outgoing import place_of
from federation.relay.paths import InferenceVerb, gateway_path
from router import responses
from router.body import Body, asks_nothing
from router.call import UNUSUAL, Call
from router.door import Door, Known, Visit
from router.grpc.shared import Shared
from router.metrics import Tally
from router.outgoing import own_fields, passed_fields
from router.policy import residency
from router.policy.admission import Place
from router.policy.decision import Reason
from router.policy.pick import pick, shortlist
from router.policy.quota import Hold
from router.policy.retry import Limits
from router.policy.shortlist import Option, Shortlist
from router.policy.signals import Attempt
from router.policy.table import Resolved
from router.records import Scored, Who
from router.steps import Steps, load_of, who_asks

MOST_BYTES = 256 * 1024  # of a body; larger ones do not come in one piece
_END = b"\r\n\r\n"
_OURS = (*responses.OWN_HEADERS, "x-request-id")


class To:
    """One cluster as requests of one way get there, and what their answers tell of it."""

    __slots__ = ("base", "start", "tally", "told")

    def __init__(self, base: str, start: bytes, told: bytes) -> None:
        self.base = base
        self.start = start
        self.told = told
        self.tally: Tally | None = None  # as long as the table is the same


class Way:
    """What is known of requests with one head: as long as `known` holds, the next one is let in as
    the last one was."""

    __slots__ = ("client", "known", "origin", "passed", "shorts", "tos", "traced", "who")

    def __init__(self, known: Known, head: RequestHead, origin: Location | None, who: Who) -> None:
        self.known = known
        self.who = who
        self.client: Location | None = None  # its place, where nearer routers are told
        self.origin = origin
        self.passed, trace = passed_fields(head)
        self.traced = bool(trace)
        self.shorts: dict[int, Shortlist] = {}  # by version
        self.tos: dict[Option, To] = {}

    def __repr__(self) -> str:
        return f"Way({self.known.visit.target})"


class QuickLane:
    """Takes requests the short way; `go_on` answers those that it hands over."""

    def __init__(
        self,
        shared: Shared,
        *,
        steps: Steps,
        door: Door,
        go_on: "Callable[[Request, Flight], Coroutine[Any, Any, None]]",
    ) -> None:
        self.limits = limits = shared.limits
        self.state = shared.state
        self.upstreams = shared.upstreams
        self.steps = steps
        self.go_on = go_on
        self.deadlines = Deadlines(
            connect_s=limits.connect_s, first_byte_s=limits.deadline_s, idle_s=limits.idle_s
        )
        self.clock_s = shared.state.clock.monotonic_s
        self._door = door
        self._admission = shared.admission
        self._quotas = shared.quotas
        self._most = min(MOST_BYTES, limits.replay_bytes, limits.body.max_bytes)

    def __repr__(self) -> str:
        return f"QuickLane({self.steps})"

    def offer(
        self, connection: ServerConnection, head: RequestHead, alike: Alike, raw: bytes, body: bytes
    ) -> "Flight | None":
        """Take a request, or do nothing and return None (`Application.quick`)."""
        started_s = self.clock_s()
        way: Any = alike.known
        if way is None or not self._door.holds(way.known, started_s):
            way = alike.known = self._way(connection, head)
            if not way:
                return None
        size, visit, place = len(body), way.known.visit, None
        if size > self._most or not asks_nothing(body):
            return None
        try:
            resolved = self.steps.resolve(visit.caller, visit.target.model, visit.target.version)
            if resolved.split is not None:
                return None  # the usual way finds out who asks, and chooses the version
            place = self._admission.enter_with(size)
            hold = self._quotas.enter(visit.caller.tenant, started_s)
        except FederationError:  # the usual way says why
            if place is not None:
                place.leave()
            return None
        self.state.budget.request(started_s)
        return Flight(
            self, connection, way, resolved, (place, hold, started_s), (raw, body, alike.values)
        )

    def to(self, way: Way, resolved: Resolved, chosen: Option, base: str) -> To | None:
        """Work out how requests get to a cluster; None if they cannot."""
        caller, model, version = way.known.visit.caller, resolved.route.name, resolved.version
        residency.assure(resolved.route, caller.regions, chosen)
        try:
            place = place_of(base + gateway_path(InferenceVerb.INFER, model, version))
        except ForwardError:
            return None
        start = f"POST {place.path} HTTP/1.1\r\nHost: {place.authority}\r\n"
        told = responses.way_fields(chosen, resolved, 1)
        told += self.steps.steering.line(way.client, resolved, caller)
        found = way.tos[chosen] = To(base, start.encode(), told)
        return found

    def short(self, way: Way, resolved: Resolved, now_s: float) -> Shortlist:
        """Return the clusters for requests of this way."""
        found = way.shorts.get(resolved.version)
        if found is None:
            state, caller = self.steps.state, way.known.visit.caller
            question = self.steps.question(resolved, caller, way.origin, now_s)
            found = shortlist(state.require_table(), state.signals, question)
            way.shorts[resolved.version] = found
        return found

    def _way(self, connection: ServerConnection, head: RequestHead) -> "Way | bool":
        """Judge a head; False if requests like it do not go this way."""
        plain = head.minor and head.persistent and not (head.chunked or head.expects)
        if not plain or any(name in head.headers for name in UNUSUAL):
            return False
        try:
            known = self._door.judge(head)
        except FederationError:
            return False
        if known.visit.target.verb is not InferenceVerb.INFER:
            return False
        remote, headers, steps = connection.remote, head.headers, self.steps
        who = who_asks(remote, headers, known.visit.caller)
        way = Way(known, head, steps.origin(remote, headers), who)
        way.client = steps.steering.client(remote, headers)
        return way


class Flight:
    """One request on the short way: what `proxy` needs to know of it if it has to go on. Of its
    places, limits, connection and attempt each is given back once, here or there."""

    __slots__ = (
        *("_body", "_connection", "_lane", "_lease", "_raw", "_to", "_upstream", "_values"),
        *("_waiting", "_way", "attempt", "chosen", "hold", "place", "request_id", "resolved"),
        *("reason", "scored", "sent", "sent_s", "started_s"),
    )

    _lease: Lease
    _to: To
    _upstream: Upstream
    _waiting: set[Any]
    attempt: Attempt
    sent_s: float

    def __init__(
        self,
        lane: QuickLane,
        connection: ServerConnection,
        way: Way,
        resolved: Resolved,
        taken: tuple[Place, Hold, float],
        seen: tuple[bytes, bytes, list[bytes | None]],
    ) -> None:
        self._lane = lane
        self._connection = connection
        self._way = way
        self.resolved = resolved
        self.place, self.hold, self.started_s = taken
        self._raw, self._body, self._values = seen
        shown = self._values[1]
        self.request_id = responses.sane_id(shown.decode("latin-1") if shown else "")
        self.chosen: Option | None = None
        self.reason: Reason | None = None
        self.scored: Scored = ()
        self.sent = False

    def __repr__(self) -> str:
        return f"Flight({self.request_id}, {self.chosen})"

    # ------------------------------------------------------------ on its way out

    def start(self) -> None:
        """Choose a cluster and send; hand over what cannot be sent at once."""
        lane, way, version = self._lane, self._way, self.resolved.version
        state, upstreams = lane.state, lane.upstreams
        short = way.shorts.get(version) or lane.short(way, self.resolved, self.started_s)
        picked = pick(short, state.signals, self.started_s, state.dice)
        if picked is not None:
            self.chosen = chosen = picked[0]
            self.reason, self.scored = picked[1], short.scored
            self.sent_s = sent_s = lane.clock_s()
            lane.steps.metrics.count_decision(picked[1], sent_s - self.started_s)
            base = upstreams.base(chosen.cluster, chosen.url)
            to = way.tos.get(chosen)
            if to is None or to.base is not base:
                to = lane.to(way, self.resolved, chosen, base)
            lease = None if to is None else upstreams.lease(chosen.cluster, base)
            if lease is not None and to is not None:
                self._send(lease, to, chosen)
                return
        self._connection.hand_over(self._raw, self._respond)

    def _send(self, lease: Lease, to: To, chosen: Option) -> None:
        lane, body = self._lane, self._body
        self._lease, self._to, self.sent = lease, to, True
        self.attempt = Attempt(lane.state.signals, chosen.lane, self.sent_s)
        self._waiting = waiting = lane.upstreams.waiting(chosen.cluster)
        waiting.add(self)
        connection = lease.connection
        connection.exchange = self
        connection.alarm.set(lane.deadlines.first_byte_s)
        told, trace = lease.stock.header(), self._values[2]
        start = to.start if told is None else to.start + f"{told[0]}: {told[1]}\r\n".encode()
        traced = trace.decode("latin-1") if trace and self._way.traced else ""
        pieces = (
            *(start, b"Content-Length: %d\r\n" % len(body), self._way.passed),
            *(own_fields(self.request_id, traced), b"\r\n", body),
        )
        cast(asyncio.Transport, connection.transport).write(b"".join(pieces))

    # ------------------------------------------------------------ what the connection brings

    def feed(self, data: bytes) -> None:
        """Take an answer, if it came whole and is good."""
        lease = self._lease
        end = data.find(_END) + 4
        found = lease.connection.like_before(data[:end]) if end > 3 else None
        if found is not None:
            head, alike = found
            good: Any = alike.known
            if good is None:
                good = alike.known = _good(head)
            length = alike.values[0]
            if good and length is not None and len(data) == end + int(length):
                self._answer(good, alike.values[1], data[end:])
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
        """The cluster did not answer in time."""
        upstream = self._resume()
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
        lease, steps = self._lease, self._lane.steps
        self._waiting.discard(self)
        lease.connection.alarm.clear()
        lease.forwarder.release(lease, answered=True)
        told = load_of(load.decode("latin-1")) if load else None
        now_s = steps.answered(self.attempt, 200, told, self.sent_s)
        chosen, took_s = cast(Option, self.chosen), now_s - self.sent_s
        seen = (self.resolved, chosen, 200, took_s)
        steps.ended(self.attempt, None, now_s, answered=True, seen=seen)
        self.place.leave()
        self.hold.leave()
        started_s, sent_s = self.started_s, self.sent_s
        timing_ms = ((sent_s - started_s) * 1000, (now_s - sent_s) * 1000)
        own = responses.own_fields(
            self._to.told, timing_ms, self.request_id, self.hold.fields(now_s)
        )
        known, state, tally = self._way.known, self._lane.state, self._to.tally
        if tally is None or known.table is not state.table:
            tally = steps.tally(known.visit.caller, self.resolved, chosen, 200)
            self._to.tally = tally
        state.requests_total += 1
        tally.add(now_s - started_s)
        state.records.keep(
            (
                *(self.request_id, now_s, started_s, self._way.who, self.resolved, self.chosen),
                *(self.reason, self.scored, 200, ()),
            )
        )
        self._connection.answer(b"%b%bContent-Length: %d\r\n" % (good, own, len(body)), body)

    # ------------------------------------------------------------ handing over

    def _resume(self) -> Upstream:
        return self._lease.forwarder.resume(self._lease, self._lane.deadlines)

    def _go_on(self, upstream: Upstream) -> None:
        self._waiting.discard(self)
        self._upstream = upstream
        self._connection.hand_over(self._raw, self._respond)

    def _respond(self, request: Request) -> Coroutine[Any, Any, None]:
        return self._lane.go_on(request, self)

    def visit(self) -> Visit:
        """Return who asks for what."""
        return self._way.known.visit.named(self.request_id)

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
            limits=Limits(deadline_s=deadline_s),
            own_deadline=False,
            resolved=self.resolved,
        )

    def sending(self) -> Sending:
        """Return the wait for the answer to what was sent."""
        left_s = self._lane.deadlines.first_byte_s - (self._lane.clock_s() - self.sent_s)
        forwarder = self._lease.forwarder
        return Sending(
            forwarder.answered(self._lease, self._upstream, self._waiting, max(left_s, 0.001))
        )


def _good(head: ResponseHead) -> bytes | bool:
    """Return how answers with such a head begin for the client; False if `proxy` has to look."""
    limited = any(name.lower().startswith("x-ratelimit-") for name in head.headers)
    plain = head.persistent and not head.chunked and head.length >= 0
    if not plain or limited or not 200 <= head.status < 204:
        return False
    if REFUSED_HEADER in head.headers or OUTCOME_HEADER in head.headers:
        return False
    passed = response_headers(head.headers, cut=_OURS)
    return f"{FIRST[head.status]}\r\n".encode() + lines(passed)
