"""The server's side of a connection: requests one after the other, each answered before the next.

Input: the bytes of a client. Output: Requests for the application, one at a time, and the bytes of
its answers; or 400 and the end for what is no HTTP/1.1. A client that speaks HTTP/2 from its first
byte is handed over (`transport.Takeover`), if the application takes such clients.

Every phase is bounded: an idle connection or a head by `keepalive_s`, a body by who reads it, what
is left of a request after its answer by `lingering_s`, an answer not taken by who writes it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, cast

from federation.contract.errors import Invalid
from federation.relay.http1.alike import CONTENT_LENGTH, Alike
from federation.relay.http1.heads import (
    BadMessage,
    RequestHead,
    check_beginning,
    parse_request,
)
from federation.relay.http1.house import House
from federation.relay.http1.inflow import HELD_BYTES, Inflow
from federation.relay.http1.messages import Request
from federation.relay.http1.outbox import Outbox
from federation.relay.http1.outflow import AnswerWriter
from federation.relay.http1.quick import ANSWERED, UnderWay
from federation.relay.http1.waiting import NEVER, Drive
from federation.relay.transport import PREFACE, Switched

log = logging.getLogger(__name__)
_END = b"\r\n\r\n"
_FORGOTTEN_BYTES = 1 << 20
_VARY = (CONTENT_LENGTH, b"x-request-id", b"traceparent")  # from request to request of a client


class ServerConnection(AnswerWriter):
    """One connection of a client. `on_lost` are called at its end."""

    __slots__ = (
        *("_ahead", "_alike", "_drive", "_forgotten", "_head", "_in_next", "_lingering", "_other"),
        *("_parting", "_request", "_under_way", "on_lost", "served"),
    )

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.served = 0
        self.on_lost: list[Callable[[], None]] = []
        self._ahead = b""  # read, and not yet looked at
        self._alike: Alike | None = None  # the last head, as it came
        self._head: RequestHead | None = None  # and as it was read
        self._request: Request | None = None  # that is being answered
        self._drive: Drive | None = None
        self._under_way: UnderWay | None = None  # instead of both
        self._other: Switched | None = None
        self._in_next = False
        self._lingering = self._parting = False
        self._forgotten = 0

    def __repr__(self) -> str:
        doing = self._request or self._under_way or "idle"
        return f"ServerConnection({self.remote}, {doing})"

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._request is not None or self._under_way is not None

    # ------------------------------------------------------------ what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._house.connections.add(self)
        if not self._house.open.made(self, self.transport):
            self._closes = self._parting = True
            self.transport.close()
            return
        self._alarm.set(self._house.keepalive_s)

    def data_received(self, data: bytes) -> None:
        """Take what came: of a body, or of the next head."""
        if self._under_way is not None:
            self._hold(data)
        elif self._request is not None:
            self._while_busy(self._request, data)
        elif self._other is not None:
            self._other.data_received(data)
        elif self._parting:
            self._forget(len(data))
        else:
            if self._ahead:
                data = self._ahead + data
            alike = self._alike
            if alike is not None and alike.known:  # the likes of it went the short way
                raw = alike.begins(data)
                if raw and self._offered(alike, raw, data):
                    return
            self._ahead = data
            self._next()

    def _while_busy(self, request: Request, data: bytes) -> None:
        body = request.body
        if body is not None and not body.ended:
            if self._lingering:
                self._forget(len(data))
            data = self._feed(body, data)
            body.wake()
            if self._lingering and body.ended:
                self._idle()
        if data and not self._parting:
            if self._request is None:
                self._ahead += data
                self._next()
            else:
                self._hold(data)

    def _hold(self, data: bytes) -> None:
        """Keep what comes ahead of its time; the client waits before it is much."""
        self._ahead += data
        if len(self._ahead) > HELD_BYTES:
            self.transport.pause_reading()

    def eof_received(self) -> bool | None:
        """The client sends no more: it is not waited for."""
        return self._other.eof_received() if self._other is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what is done for it ends."""
        self._alarm.close()
        if self._stall is not None:
            self._stall.close()
        if self._other is not None:
            self._other.connection_lost(exc)
        self._closes = self._parting = True
        if self._under_way is not None:
            self._under_way.abandon()
        self._wake_writer(ConnectionResetError("the client is gone"))
        if self._request is not None and self._request.body is not None:
            self._request.body.fail(ConnectionResetError("the client is gone"))
        if self._drive is not None:
            self._drive.cancel()
        house = self._house
        house.connections.discard(self)
        house.open.lost(self)
        if not house.connections:
            house.emptied.set()
        for tell in self.on_lost:
            tell()
        self.on_lost.clear()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._full = True
        if self._other is not None:
            self._other.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._full = False
        self._wake_writer()
        if self._other is not None:
            self._other.resume_writing()

    # ------------------------------------------------------------ one request after the other

    def _next(self) -> None:
        """Begin with what is there, as long as it holds requests and none is under way."""
        if self._in_next:
            return
        self._in_next = True
        try:
            while self._ahead and not (self.busy or self._parting):
                if not self._begin_next():
                    return
        except BadMessage as error:
            self.write(self._house.application.not_understood(error))
            self._part()
        finally:
            self._in_next = False

    def _begin_next(self) -> bool:
        """Begin one request; False if its head has not come, or the client speaks HTTP/2."""
        data = self._ahead
        while data.startswith(b"\r\n"):
            self._ahead = data = data[2:]
        if not self.served and data[:4] == PREFACE[:4] and self._house.application.on_h2:
            self._switch(data)
            return False
        end = data.find(_END) + 4
        if end < 4:
            check_beginning(data)
            return False
        raw, alike, head = data[:end], self._alike, self._head
        if alike is None or head is None or not alike.fits(raw):
            head = parse_request(raw)
            self._alike = alike = Alike(raw, _VARY)
            self._head = head
        if self._quickly(alike, raw, data):
            return True
        if raw != alike.raw:  # like it, but not the same
            head = parse_request(raw)
        self._ahead = data[end:]
        self._begin(head)
        return True

    def _quickly(self, alike: Alike, raw: bytes, data: bytes) -> bool:
        """Let a request that is there whole be answered without a coroutine, if the application
        takes it."""
        return alike.known is not False and alike.plain and self._offered(alike, raw, data)

    def _offered(self, alike: Alike, raw: bytes, data: bytes) -> bool:
        house, head = self._house, self._head
        quick = house.application.quick
        if quick is None or head is None:
            return False
        end = body_at = len(raw)
        if alike.length > 0:
            end += alike.length
        if len(data) < end or self._closes or self._full or house.draining:
            return False
        under_way = quick(self, head, alike, raw, data[body_at:end])
        if under_way is None:
            return False
        self._ahead = data[end:] if len(data) > end else b""
        self._alarm.due_s = NEVER
        self.served += 1
        self._under_way = under_way
        under_way.start()
        return True

    @property
    def outbox(self) -> Outbox:
        """Where messages are sent from, at the end of this turn of the loop."""
        return self._house.outbox

    def answer(self, head: bytes, body: bytes) -> None:
        """Send the whole answer of the request under way, `head` without its end, at the end of
        this turn, and go on with the next request."""
        self._under_way = ANSWERED
        self._house.outbox.put(self, (head, body))

    def send(self, pieces: tuple[bytes, ...]) -> None:
        """Write what `answer` was given."""
        self._under_way = None
        transport, house = self.transport, self._house
        if transport.is_closing():
            return
        closes = self._closes or house.draining
        (head, body), now_s = pieces, house.now_s()
        transport.write(b"%b%b%b" % (head, house.head_end(now_s, closes=closes), body))
        if self._full:
            self._closes = closes
            self._answer_by(None, house.application.settle)
        elif closes or self._ahead:
            self._idle()
        else:
            self._alarm.set_at(now_s + house.keepalive_s)

    def hand_over(
        self, raw: bytes, respond: Callable[[Request], Coroutine[Any, Any, None]]
    ) -> None:
        """Let a coroutine answer the request under way; `raw` is its head."""
        self._under_way = None
        self._answer_by(raw, respond)

    def _answer_by(
        self, raw: bytes | None, respond: Callable[[Request], Coroutine[Any, Any, None]]
    ) -> None:
        head = self._head
        if head is None or (raw is not None and self._alike and raw != self._alike.raw):
            head = parse_request(raw or b"")
        self._request = request = Request(self, head, None)
        self._drive = drive = Drive(respond(request), self._done, self._loop)
        drive.step()

    def _begin(self, head: RequestHead) -> None:
        body: Inflow | None = None
        if head.length or head.chunked:
            body = Inflow(self.transport, self._loop, head.length)
            if head.chunked:
                body.expect_chunks()
            if self._ahead:
                ahead, self._ahead = self._ahead, b""
                self._ahead = self._feed(body, ahead)
        self._alarm.clear()
        self.served += 1
        if not head.persistent:
            self._closes = True
        self._request = request = Request(self, head, body)
        self._drive = drive = Drive(
            self._house.application.respond(request), self._done, self._loop
        )
        drive.step()

    def _feed(self, body: Inflow, data: bytes) -> bytes:
        """Give a body its bytes; return what follows it."""
        try:
            return data[body.feed(data) :]
        except BadMessage as error:
            self._closes = True
            body.fail(Invalid(f"The request's body is not understood: {error}."))
            self.transport.pause_reading()
            return b""

    def _done(self, _: object, error: BaseException | None) -> None:
        """The application is done with a request."""
        self._drive = None
        if self._parting and self.transport.is_closing():
            self._request = None
            return
        if error is not None:
            if not isinstance(error, asyncio.CancelledError):
                log.error("an answer could not be given", exc_info=error)
            self._request = None
            self.transport.abort()
            return
        request = self._request
        if request is not None and request.body is not None and not request.body.ended:
            request.body.drop()
            self._lingering = True  # the rest of the request is read and forgotten
            self._alarm.set(self._house.lingering_s)
            if self._closes:
                self._part()
        elif self._closes or self._house.draining:
            self._part()
        else:
            self._idle()

    def _idle(self) -> None:
        """Wait for the next request."""
        held = len(self._ahead) > HELD_BYTES
        self._request = None
        self._lingering = False
        self._forgotten = 0
        if self._closes or self._house.draining:
            self._part()
            return
        self._alarm.set(self._house.keepalive_s)
        if self._ahead:
            self._next()
            if held and len(self._ahead) <= HELD_BYTES and not self.transport.is_closing():
                self.transport.resume_reading()

    def _part(self) -> None:
        """Close, but let a client that still sends read its answer first (RFC 9112, 9.6)."""
        unread = self._lingering or bool(self._ahead)
        self._request, self._ahead, self._parting, self._closes = None, b"", True, True
        if not (unread and self.transport.can_write_eof()) or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write_eof()
        self.transport.resume_reading()
        self._alarm.set(self._house.lingering_s)

    def _forget(self, count: int) -> None:
        """Count what is read of a request after its answer; who sends too much of it is cut."""
        self._forgotten += count
        if self._forgotten > _FORGOTTEN_BYTES:
            self.transport.abort()

    def _expired(self) -> None:
        """Time is up for what the client owes."""
        body = self._request.body if self._request is not None else None
        if body is not None and body.awaited and not self._lingering:
            body.wake(TimeoutError())
        else:
            self._parting = self._closes = True
            self.transport.close()

    def _switch(self, data: bytes) -> None:
        begins = PREFACE.startswith(data[: len(PREFACE)])
        takeover = self._house.application.on_h2
        if not begins or takeover is None:
            raise BadMessage("its head is not valid HTTP/1.1")
        if len(data) < len(PREFACE):
            return
        self._alarm.clear()
        self._ahead = b""
        self._other = other = takeover(self)
        other.connection_made(self.transport)
        other.data_received(data)

    def drain(self) -> None:
        """Take no new request; close as soon as nothing runs."""
        if self._other is not None:
            self._other.drain()
        elif self.busy and not self._lingering:
            self._closes = True
        else:
            self._parting = self._closes = True
            self.transport.close()
