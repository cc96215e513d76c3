"""One call: a stream of a client, and the stream at a backend that answers it.

Input: frames of both, decisions of its Handler. Output: frames to both. Until something of an
answer was sent on, an attempt that failed can be made again elsewhere, from the bytes that were
kept. Every call ends exactly once (`release`): by the backend's trailers, by trailers that we make,
or because its client left.
"""

from typing import TYPE_CHECKING

from federation.contract.errors import DeadlineExceeded, Exhausted, FederationError, TooLarge
from federation.relay.errors import BadUpstream
from federation.relay.h2 import status as statuses
from federation.relay.h2.flow import Flow, Piece
from federation.relay.h2.heads import ANSWER
from federation.relay.h2.message import enveloped
from federation.relay.h2.service import Failure, Handler, Held, Kind, Reply, Route, none_in
from federation.relay.h2.start import start_of
from federation.relay.h2.state import CallState
from federation.relay.h2.status import Status
from federation.relay.h2.wheel import NEVER
from federation.relay.h2.wire import DATA, Code, frame, reset, window_update

if TYPE_CHECKING:
    from federation.relay.h2.upstream import Up

_UNROUTED_BYTES = 64 * 1024
_ALL = 1 << 60


class Stream(CallState):
    """A call on its way."""

    # ------------------------------------------------------------ from the client

    def begin(self, handler: Handler) -> None:
        """The head came."""
        self.handler = handler
        self.client.switch.counts.calls += 1
        self._decide()
        self.be_patient()

    def be_patient(self) -> None:
        """Take note of how long the call may take."""
        handler = self.handler
        if handler is None or self.gone:
            return
        if handler.patience.total_s is not None:
            self.ends_s = self.began_s + handler.patience.total_s
        self.look_s = handler.late_at_s()
        self._await_first(self.began_s, handler)

    def _await_first(self, now_s: float, handler: Handler) -> None:
        """Take note of how long its answer may take to begin, or the call to wait."""
        if self.gone:
            return
        first_s = handler.patience.first_s if self.held is None else self.held.at_most_s
        if first_s is not None and not self.begun:
            self.first_by_s = now_s + first_s
        self.arm(now_s)

    def on_request_data(self, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of the request came."""
        request = self.request
        if request.ended or not request.take(size):
            code = Code.STREAM_CLOSED if request.ended else Code.FLOW_CONTROL_ERROR
            self.client.send(reset(self.number, code))
            self.abandon()
            return
        request.ended = ended
        if self.route is None:
            request.hold(data)
            if self.held is None:
                self._decide()
            self.bound(request)
            return
        try:
            request.hold(self._rewritten(data))
        except FederationError as error:
            self.fail(error)
            return
        if self.up is not None:
            self.pump_request()
        else:
            self._grant()
        self.bound(request)

    def bound(self, flow: Flow) -> None:
        """End a call that has to be held where there is no memory for it."""
        if flow.too_much and not self.gone:
            why = "This hop already holds as much of calls as it may."
            self.fail(Exhausted(why, hint="Try again in a second.", reason="no-memory"))

    def _rewritten(self, data: Piece) -> Piece:
        rewriter = self.route.request if self.route else None
        if rewriter is None:
            return data
        data = rewriter.feed(bytes(data))
        if self.request.ended:
            rewriter.finish()
        return data

    def on_client_window(self, size: int) -> None:
        """The client takes more of the answer."""
        if not size or not self.answer.widen(size):
            code = Code.FLOW_CONTROL_ERROR if size else Code.PROTOCOL_ERROR
            self.client.send(reset(self.number, code))
            self.abandon()
        elif self.answer.held:
            self.pump_answer()

    # ------------------------------------------------------------ where it goes

    def _decide(self) -> None:
        """Ask where the call goes, as often as it takes."""
        if self.handler is None:
            return
        try:
            self.follow(self.handler.route(start_of(self.request, self.head.encoding)))
        except FederationError as error:
            self.fail(error)

    def follow(self, found: Route | Reply | Held | None) -> None:
        """Do as was decided; raises FederationError."""
        if isinstance(found, Route):
            self._go(found)
        elif isinstance(found, Held):
            self.held, found.then = found, self._go_on
            if self.handler is not None:
                self._await_first(self.client.switch.read_s, self.handler)
        elif isinstance(found, Reply):
            self._reply(found)
        elif self.request.held > _UNROUTED_BYTES:
            raise TooLarge("The call's message is larger than this method takes.")

    def _go_on(self) -> None:
        """What the call waited for has happened."""
        switch, handler = self.client.switch, self.handler
        self.held, self.first_by_s, switch.read_s = None, NEVER, switch.now()
        if self.gone or handler is None:
            return
        self._decide()
        self._await_first(switch.read_s, handler)
        switch.flush()

    def _go(self, route: Route) -> None:
        self.route = route
        request = self.request
        if route.request is not None and (request.pieces or request.ended):
            for piece in request.let_go():
                request.hold(route.request.feed(bytes(piece)))
            if request.ended:
                route.request.finish()
        route.backend.take(self)

    def open_on(self, up: "Up") -> None:
        """Begin the attempt on a connection."""
        if self.route is not None:
            up.open(self, self.head.block + self.route.headers)

    def pump_request(self, quantum: int = _ALL) -> None:
        """Send on what came of the request."""
        if self.up is None:
            return
        sent = self.request.pump(self.up, self, self.up_number, quantum, ends=True)
        if sent and self.replay is not None:
            self._keep(sent)
        if not self.request.ended:
            self._grant()

    def _grant(self) -> None:
        if room := self.request.give_back():
            self.client.send(window_update(self.number, room))

    def _keep(self, sent: list[Piece]) -> None:
        size = sum(map(len, sent))
        fits = self.replay_bytes + size <= self.client.switch.limits.replay_bytes
        if self.replay is None or self.handler is None:
            return
        if fits and self.handler.keep(size):
            self.replay = [*self.replay, *sent]
            self.replay_bytes += size
        else:
            self.replay = None

    # ------------------------------------------------------------ from the backend

    def on_answer_block(self, block: bytes, *, ended: bool) -> None:
        """Head or trailers of the answer came; raises Broken."""
        head = self.client.switch.service.answers.read(block)
        handler = self.handler
        if handler is None:
            return
        first = not self.begun
        if first:
            if failure := none_in(head, handler, alone=ended):
                self.lost(failure, reset=Code.CANCEL)
                return
            self.answer_begins()
            if not ended:
                passed = handler.answer(head, first=True, last=False)
                self.client.send_block(self.number, passed, last=False)
                return
        elif not ended:
            self._broke_off("it sent a second head", Status.INTERNAL)
            return
        self.answer.ended = True
        passed = handler.answer(head, first=first, last=True)
        self.trailers = (passed, statuses.parse(head.grpc_status))
        if not self.answer.pieces:
            self._finish()

    def answer_begins(self) -> None:
        """Take note that no other attempt will be made, and end one that is under way."""
        self.begun, self.replay, self.first_by_s, self.look_s = True, None, NEVER, NEVER
        if self.rival is not None:
            self.rival.detach(Code.CANCEL)

    def on_answer_data(self, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of the answer came."""
        answer = self.answer
        if not self.begun:
            why = "it sent a body without a head"
            failure = Failure(kind=Kind.BROKEN, why=why, status=Status.INTERNAL)
            self.lost(failure, reset=Code.PROTOCOL_ERROR)
            return
        if not answer.take(size):
            self._broke_off("it sent more than its window", Status.INTERNAL)
            return
        rewriter = self.route.answer if self.route else None
        try:
            answer.hold(rewriter.feed(data) if rewriter else data)
        except FederationError as error:
            self.fail(error)
            return
        answer.ended = ended
        self.pump_answer()
        self.bound(answer)

    def answer_bit_by_bit(self, head: bytes, body: bytes, trailers: bytes, status: Status) -> None:
        """Send on an answer that came whole, as the client takes it."""
        self.client.send_block(self.number, head, last=False)
        self.trailers = trailers, status
        self.answer.take(len(body))
        self.answer.hold(body)
        self.answer.ended = True
        self.pump_answer()
        self.bound(self.answer)

    def pump_answer(self, quantum: int = _ALL) -> None:
        """Send on what came of the answer."""
        answer = self.answer
        answer.pump(self.client, self, self.number, quantum, ends=False)
        if answer.ended:
            if not answer.pieces and self.begun:
                self._finish()
        elif self.up is not None and (room := answer.give_back()):
            self.up.send(window_update(self.up_number, room))

    # ------------------------------------------------------------ ends

    def _finish(self) -> None:
        """All of the answer is sent: end it as the backend did."""
        if self.trailers is None:
            self._broke_off("it ended without a status", Status.UNKNOWN)
            return
        block, status = self.trailers
        self.client.send_block(self.number, block, last=True)
        self._stop_request()
        self.detach(None if self.request.last_frame else Code.CANCEL)
        self.release(status)

    def _reply(self, reply: Reply) -> None:
        """Answer without a backend."""
        self.client.send_block(self.number, ANSWER, last=False)
        self.client.send(frame(DATA, 0, self.number, enveloped(reply.message)))
        self.client.send_block(self.number, statuses.fields(Status.OK, ""), last=True)
        self._stop_request()
        self.release(Status.OK)

    def _stop_request(self) -> None:
        """The answer is over; let a client that still sends stop (RFC 9113, section 8.1)."""
        if not self.request.ended:
            self.client.send(reset(self.number, Code.NO_ERROR))

    def lost(self, failure: Failure, *, reset: Code | None = None) -> None:
        """An attempt failed: make another one, or tell the client."""
        if self.gone:
            return
        if self.begun:
            self._broke_off(failure.why, failure.status)
            return
        if self.rival is not None:
            self.rival.take_over(failure, reset)
            return
        self.detach(reset)
        if self.handler is None:
            self.release(None)
            return
        try:
            self.handler.lost(failure, again=self.replay is not None)
        except FederationError as error:
            self.fail(error)
            return
        self.client.switch.counts.retries += 1
        self._rewind()
        self._decide()

    def _rewind(self) -> None:
        request = self.request
        request.hold_first(self.replay or ())
        request.last_frame = self.sent_whole = False
        self.replay, self.replay_bytes, self.route = (), 0, None
        self.answer.granted, self.answer.owed, self.answer.ended = self.answer.size, 0, False

    def _broke_off(self, why: str, status: Status) -> None:
        """The backend failed after its answer had begun: end it, and say so."""
        broken = BadUpstream(
            f"The cluster that answered this call broke off: {why}.",
            hint="What came before is valid; send the call again for a whole answer.",
            reason="stream-broken",
        )
        self.fail(broken, status)

    def fail(self, error: FederationError, status: Status | None = None) -> None:
        """End the call with an error of our own, whatever was sent already."""
        if self.gone:
            return
        self.detach(Code.CANCEL)
        status = statuses.of_error(error) if status is None else status
        block = statuses.fields(status, error.sentence())
        if self.handler is not None:
            block += self.handler.told(error)
        if not self.client.closed:
            begin = b"" if self.begun else ANSWER
            self.client.send_block(self.number, begin + block, last=True)
            self._stop_request()
        self.release(status)

    def abandon(self) -> None:
        """The client left."""
        self.detach(Code.CANCEL)
        self.release(None)

    def detach(self, code: Code | None = None) -> None:
        """Leave the backend; `code` tells it to stop."""
        up, self.up = self.up, None
        if self.rival is not None:
            self.rival.detach(Code.CANCEL)
        if up is not None:
            up.blocked.pop(self, None)
            if up.streams.pop(self.up_number, None) is not None:
                up.busy_s = self.client.switch.read_s
                if code is not None and not up.closed:
                    up.send(reset(self.up_number, code))
            up.close_if_done()
            up.backend.more()
        elif self.route is not None:
            self.route.backend.forget(self)

    def release(self, status: Status | None, sent: int = 0) -> None:
        """Leave all tables, once; `sent` are bytes of an answer that did not pass `answer`."""
        if self.gone:
            return
        self.gone = True
        client, switch = self.client, self.client.switch
        client.busy_s = switch.read_s
        client.streams.pop(self.number, None)
        client.blocked.pop(self, None)
        switch.fresh.pop(self, None)
        switch.wheel.disarm(self)
        self.let_go()
        if self.handler is not None:
            self.handler.ended(status, sent + (self.made_answer.sent if self.made_answer else 0))
        client.close_if_done()

    # ------------------------------------------------------------ time

    def arm(self, now_s: float) -> None:
        """Let `expired` be called when there is something to look at."""
        limits = self.client.switch.limits
        at_s = min(self.ends_s, self.first_by_s, self.look_s, now_s + limits.stall_s)
        self.client.switch.wheel.arm(self, at_s)

    def expired(self, now_s: float) -> None:
        """A deadline passed, or it is time to see whether the client reads."""
        if now_s >= self.ends_s:
            self.fail(DeadlineExceeded("The call's deadline passed at this hop."))
        elif now_s >= self.first_by_s:
            late = DeadlineExceeded("No cluster answered in time.")
            self.fail(self.held.late() if self.held is not None else late)
        elif now_s >= self.look_s:
            self.client.switch.look(self, now_s)
        elif self.answer.held and self.answer.sent == self.seen_sent:
            self.client.switch.counts.broke(client=True, why="the client does not take its answer")
            self.client.send(reset(self.number, Code.CANCEL))
            self.abandon()
        else:
            self.seen_sent = self.answer.sent
            self.arm(now_s)
