"""One exchange on a connection to an upstream: a request, and its answer as it comes.

Input: the bytes of a request, then what its connection reads. Output: an Upstream, whose body comes
as it arrives; or a ForwardError.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from multidict import CIMultiDict

from federation.relay.failures import (
    BrokenMidway,
    ConnectFailed,
    ForwardError,
    Phase,
    Refused,
    SentNoAnswer,
    TimedOut,
    broke_off,
    refused_by_peer,
)
from federation.relay.headers import LOAD_HEADER, response_headers
from federation.relay.http1.alike import CONTENT_LENGTH
from federation.relay.http1.chunks import LAST, chunk
from federation.relay.http1.client import ClientConnection
from federation.relay.http1.heads import (
    MAX_HEAD_BYTES,
    BadMessage,
    ResponseHead,
)
from federation.relay.http1.inflow import Inflow, Taker
from federation.relay.http1.waiting import Pause

_END = b"\r\n\r\n"
_ALONE_BYTES = 32 * 1024  # bodies from this size on are not copied behind their head
ANSWERS_VARY = (CONTENT_LENGTH, LOAD_HEADER.encode(), b"date")  # from answer to answer of a server
_NO_HEADERS: CIMultiDict[str] = CIMultiDict()


class Upstream:
    """One exchange: the request on its way out, then the answer, head first. `ended` is called once
    when the exchange gives up its connection."""

    __slots__ = (
        *("_begun", "_body", "_buffer", "_connection", "_ended", "_error", "_first_byte_s"),
        *(
            "_head",
            "_hurried_s",
            "_idle_s",
            "_pause",
            "_pump",
            "_sent",
            "_to_head",
            "headers",
            "status",
        ),
    )

    def __init__(
        self,
        connection: ClientConnection,
        ended: Callable[["Upstream", ClientConnection], None],
        *,
        first_byte_s: float,
        idle_s: float,
        to_head: bool = False,
    ) -> None:
        self.status = 0
        self.headers = _NO_HEADERS
        self._connection = connection
        self._ended: Callable[[Upstream, ClientConnection], None] | None = ended
        self._first_byte_s = first_byte_s
        self._idle_s = idle_s
        self._hurried_s = 0.0
        self._to_head = to_head
        self._sent = False  # all of the request
        self._head: ResponseHead | None = None
        self._body: Inflow | None = None
        self._buffer = b""
        self._pause: Pause | None = None
        self._pump: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        connection.exchange = self
        connection.read_in_pieces(bounded=True)

    def __repr__(self) -> str:
        return f"Upstream({self.status or 'waiting'})"

    # ------------------------------------------------------------ the request

    def send(self, head: bytes, *body: bytes) -> None:
        """Send a whole request, its body in one piece or several."""
        transport = self._begin()
        if sum(map(len, body)) < _ALONE_BYTES:
            transport.write(b"".join((head, *body)))
        else:
            transport.writelines((head, *body))
        self._sent = True

    def sent_already(self) -> "Upstream":
        """Go on with an exchange whose request is out; returns itself."""
        self._sent = True
        return self

    def send_pieces(self, head: bytes, pieces: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Send a request whose body comes bit by bit; the answer may begin before its end."""
        self._begin().write(head)
        self._pump = self._connection.loop.create_task(self._pumped(pieces, chunked))

    async def _pumped(self, pieces: AsyncIterator[bytes], chunked: bool) -> None:  # noqa: FBT001
        connection = self._connection
        try:
            async for piece in pieces:
                if not connection.is_connected():
                    return
                self._transport().write(chunk(piece) if chunked else piece)
                if connection.full:
                    connection.drained = drained = Pause(connection.loop)
                    await drained
            if chunked and connection.is_connected():
                self._transport().write(LAST)
            self._sent = True
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # it comes out where the answer is awaited
            self._fail(error)

    def _transport(self) -> asyncio.Transport:
        transport = self._connection.transport
        if transport is None:
            raise Refused("its connection broke as it was taken")
        return transport

    def _begin(self) -> asyncio.Transport:
        transport = self._transport()
        if transport.is_closing():
            raise Refused("its connection broke as it was taken")
        return transport

    # ------------------------------------------------------------ the answer, as it comes

    def feed(self, data: bytes) -> None:
        """Take what came; called by the connection."""
        body = self._body
        try:
            if body is None:
                self._feed_head(data)
            else:
                if body.awaited:
                    self._connection.alarm.set(self._idle_s)
                self._take_in(body, data)
                body.wake()
        except BadMessage as error:
            words = f"its answer is not understood: {error}"
            self._connection.abort()
            self._fail(BrokenMidway(words) if self._head else SentNoAnswer(words))

    def _feed_head(self, data: bytes) -> None:
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        head, data = self._find_head(data)
        if head is None:
            self._buffer = data
            return
        connection = self._connection
        self._head, self.status, self.headers = head, head.status, head.headers
        connection.proven = True
        connection.alarm.clear()
        if not head.persistent:
            connection.should_close = True
        self._body = body = Inflow(self._transport(), connection.loop, head.length)
        if head.chunked:
            body.expect_chunks()
        if data:
            self._take_in(body, data)
        if self._pause is not None:
            self._pause.wake()

    def _find_head(self, data: bytes) -> tuple[ResponseHead | None, bytes]:
        """Return the head of the final response, None if it has not come, and what is left."""
        while data:
            end = data.find(_END) + 4
            if end < 4:
                if len(data) > MAX_HEAD_BYTES or not b"HTTP/1.".startswith(data[:7]):
                    raise BadMessage("it does not begin like HTTP/1.1")
                break
            head = self._connection.head_of(data[:end], to_head=self._to_head)
            data = data[end:]
            if head.status >= 200:
                return head, data
            if head.status == 101:
                raise BadMessage("it switches protocols unasked")
        return None, data

    def _take_in(self, body: Inflow, data: bytes) -> None:
        if (body.feed(data) if not body.ended else 0) != len(data):
            self._connection.should_close = True  # something follows that nobody asked for

    def lost(self, error: Exception | None) -> None:
        """The connection ended; called by it."""
        body = self._body
        if body is None:
            if why := refused_by_peer(error):
                self._fail(ConnectFailed(why))
            else:
                self._fail(SentNoAnswer(broke_off(error)))
        elif error is not None or not body.finish():
            self._fail(BrokenMidway(broke_off(error)))

    def expired(self) -> None:
        """Its time is up; called by the connection's alarm."""
        if self._body is None:
            self._fail(TimedOut(Phase.FIRST_BYTE, self._first_byte_s))
        else:
            self._fail(TimedOut(Phase.IDLE, self._hurried_s or self._idle_s))

    def give_up(self, error: ForwardError) -> None:
        """End the wait for the answer's head."""
        if self._body is None:
            self._fail(error)

    def hurry(self, left_s: float) -> None:
        """Wait no longer than this for the next byte of a body that has begun."""
        body = self._body
        if body is not None and body.awaited and not body.ended:
            self._hurried_s = left_s
            self._connection.alarm.set(left_s)

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        if self._body is not None:
            self._body.fail(self._error)
        elif self._pause is not None:
            self._pause.wake()

    # ------------------------------------------------------------ who waits for it

    async def answered(self, first_byte_s: float) -> None:
        """Wait for the head; raises ForwardError, or what the source of the request's body did."""
        if self._head is None and self._error is None:
            self._connection.alarm.set(first_byte_s)
            self._pause = Pause(self._connection.loop)
            await self._pause
        if self._head is None:
            raise self._error or SentNoAnswer("it disconnected")

    @property
    def whole(self) -> bool:
        """Whether all of the answer has come: `piece` does not wait."""
        return self._body is not None and self._body.ended

    def passed_headers(self) -> CIMultiDict[str]:
        """Return what of the answer's headers goes on, to be added to."""
        head = self._head
        if head is None:
            return CIMultiDict()
        if head.passed is None:
            head.passed = response_headers(head.headers)
        return head.passed.copy()

    async def piece(self) -> bytes:
        """Return the next piece of the body, b"" at its end; raises BrokenMidway or TimedOut."""
        body = self._body
        if body is None:
            raise RuntimeError("no head has come")
        while True:
            found = body.take()
            if found or body.ended:
                return found
            self._connection.alarm.set(self._idle_s)
            await body.pause()
            self._connection.alarm.clear()

    async def pour(self, taker: Taker) -> Pause | None:
        """Hand the rest of the body to `taker`, piece by piece as it comes; return None at its end,
        or what `taker` wants to be waited for before the next piece. Raises as `piece` does, and
        what `taker` raised."""
        body = self._body
        if body is None:
            raise RuntimeError("no head has come")
        while True:
            if found := body.take():
                wait = taker(found)
            elif body.ended:
                return None
            else:
                self._connection.alarm.set(self._idle_s)
                try:
                    wait = await body.pour(taker)
                finally:
                    self._connection.alarm.clear()
            if wait is not None:
                return wait

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in the pieces in which it arrives; raises as `piece` does."""
        while found := await self.piece():
            yield found

    async def read(self, limit: int) -> bytes | None:
        """Return the rest of the body, or None if it is longer than `limit` bytes."""
        if self.whole:
            found = await self.piece()
            return found if len(found) <= limit else None
        pieces, size = [], 0
        while found := await self.piece():
            pieces.append(found)
            size += len(found)
            if size > limit:
                return None
        return b"".join(pieces)

    def close(self) -> None:
        """Give the connection back if both messages ended on it, else close it."""
        if self._ended is None:
            return
        ended, self._ended = self._ended, None
        connection, body = self._connection, self._body
        connection.exchange = None
        connection.read_in_pieces(bounded=False)
        connection.alarm.clear()
        if self._pump is not None:
            self._pump.cancel()
        if not (self._sent and body is not None and body.ended):
            connection.abort()
        ended(self, connection)
