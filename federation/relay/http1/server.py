"""The server's side of a connection: requests one after the other, each answered before the next.

Input: the bytes of a client. Output: Requests for the application, one at a time, and the bytes of
its answers; or 400 and the end for what is no HTTP/1.1. A client that speaks HTTP/2 from its first
byte is handed over (`transport.Takeover`), if the application takes such clients.

Every phase is bounded: an idle connection or a head by `keepalive_s`, a body by who reads it, what
is left of a request after its answer by `lingering_s`, an answer not taken by who writes it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from federation.contract.errors import Invalid
from federation.relay.http1.heads import (
    BadMessage,
    RequestHead,
    check_beginning,
    parse_request,
    write_head,
)
from federation.relay.http1.house import House
from federation.relay.http1.inflow import HELD_BYTES, Inflow
from federation.relay.http1.messages import Request, StreamResponse
from federation.relay.http1.reading import PieceReader
from federation.relay.http1.waiting import Alarm, Drive, Pause
from federation.relay.transport import PREFACE, Switched

log = logging.getLogger(__name__)
_END = b"\r\n\r\n"
_FORGOTTEN_BYTES = 1 << 20
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ServerConnection(PieceReader):
    """One connection of a client. `on_lost` are called at its end."""

    __slots__ = (
        *("_ahead", "_alarm", "_closes", "_drive", "_forgotten", "_full", "_house", "_in_next"),
        "_lingering",
        *(
            "_head",
            "_loop",
            "_other",
            "_raw",
            "_parting",
            "_request",
            "_remote",
            "_stall",
            "_taken",
            "on_lost",
        ),
        *("served", "transport"),
    )

    transport: asyncio.Transport

    def __init__(self, house: House) -> None:
        self.served = 0
        self.on_lost: list[Callable[[], None]] = []
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._expired)
        self._stall: Alarm | None = None
        self._ahead = b""  # read, and not yet looked at
        self._raw = b""  # the last head, as it came
        self._head: RequestHead | None = None
        self._request: Request | None = None  # that is being answered
        self._drive: Drive | None = None
        self._other: Switched | None = None
        self._remote: str | None = None
        self._taken: Pause | None = None
        self._full = self._closes = self._in_next = False
        self._lingering = self._parting = False
        self._forgotten = 0

    def __repr__(self) -> str:
        return f"ServerConnection({self.remote}, {self._request or 'idle'})"

    @property
    def remote(self) -> str:
        """The client's address, "" where there is none."""
        if self._remote is None:
            peer = self.transport.get_extra_info("peername")
            self._remote = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        return self._remote

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._request is not None

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
        if self._other is not None:
            self._other.data_received(data)
            return
        request = self._request
        if request is None:
            if self._parting:
                self._forget(len(data))
                return
            self._ahead = self._ahead + data if self._ahead else data
            self._next()
            return
        body = request.body
        if body is not None and not body.ended:
            if self._lingering:
                self._forget(len(data))
            data = self._feed(body, data)
            body.wake()
            if self._lingering and body.ended:
                self._idle()
        if data and not self._parting:
            self._ahead += data
            if self._request is None:
                self._next()
            elif len(self._ahead) > HELD_BYTES:
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
            while self._request is None and self._ahead and not self._parting:
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
        raw = data[:end]
        if raw == self._raw and self._head is not None:
            head = self._head  # clients that keep a connection often ask the same again
        else:
            head = parse_request(raw)
            self._raw, self._head = raw, head
        self._ahead = data[end:]
        self._begin(head)
        return True

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
        elif self._request is None or self._lingering:
            self._parting = self._closes = True
            self.transport.close()
        else:
            self._closes = True

    # ------------------------------------------------------------ what answers need

    def invite(self, request: Request) -> None:
        """Ask for the body of a client that waits to be asked."""
        if request.head.expects:
            self.write(_CONTINUE)

    def now(self) -> float:
        """Return the loop's clock, in seconds."""
        return self._loop.time()

    async def body_piece(self, body: Inflow, patience_s: float) -> None:
        """Wait for the next piece of a body; raises TimeoutError."""
        self._alarm.set(max(patience_s, 0.0))
        try:
            await body.pause()
        finally:
            self._alarm.clear()

    def about_to_answer(self, request: Request, response: StreamResponse) -> None:
        """Called before the head of an answer is written."""
        request.begun = True
        self._house.application.about_to_answer(request, response)

    def head(
        self, request: Request, response: StreamResponse, first: str, fields: list[tuple[str, str]]
    ) -> bytes:
        """Return the head of an answer, with what concerns the connection."""
        fields.append(("Date", self._house.date()))
        if response.closes or self._closes or self._house.draining:
            self._closes = True
            fields.append(("Connection", "close"))
        elif not request.head.minor:
            fields.append(("Connection", "keep-alive"))
        return write_head(first, fields)

    def write(self, data: bytes) -> None:
        """Write; raises ConnectionResetError if the client is gone."""
        if self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self.transport.write(data)

    def write_all(self, pieces: tuple[bytes, ...]) -> None:
        """Write pieces without putting them together; raises as `write` does."""
        if self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self.transport.writelines(pieces)

    def wait_until_taken(self) -> Pause | None:
        """Return the wait until the client has taken enough of what was written, None if it has.

        The wait ends with ConnectionResetError if the client goes away."""
        if not self._full:
            return None
        if self._taken is None:
            self._taken = Pause(self._loop)
        return self._taken

    def bound_stall(self, seconds: float) -> Alarm:
        """Let the wait for the client end with TimeoutError in so many seconds."""
        if self._stall is None:
            self._stall = Alarm(self._loop, lambda: self._wake_writer(TimeoutError()))
        self._stall.set(seconds)
        return self._stall

    def _wake_writer(self, error: BaseException | None = None) -> None:
        if self._taken is not None:
            taken, self._taken = self._taken, None
            taken.wake(error)
