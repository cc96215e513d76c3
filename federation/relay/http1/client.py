"""The client's side of a connection: one exchange at a time.

Input: the bytes of one request, then what the far end sends. Output: an Upstream, whose body comes
as it arrives; or a ForwardError. What the far end says unasked ends the connection.
"""

import asyncio
from typing import Protocol, cast

from multidict import CIMultiDict

from federation.relay.failures import (
    ForwardError,
)
from federation.relay.headers import LOAD_HEADER
from federation.relay.http1.alike import CONTENT_LENGTH, Alike
from federation.relay.http1.heads import (
    BadMessage,
    ResponseHead,
    parse_response,
)
from federation.relay.http1.reading import InPieces
from federation.relay.http1.waiting import Alarm, Pause

_END = b"\r\n\r\n"
_ALONE_BYTES = 32 * 1024  # bodies from this size on are not copied behind their head
ANSWERS_VARY = (CONTENT_LENGTH, LOAD_HEADER.encode(), b"date")  # from answer to answer of a server
_NO_HEADERS: CIMultiDict[str] = CIMultiDict()


class Exchange(Protocol):
    """What one request and its answer are to the connection that carries them."""

    def feed(self, data: bytes) -> None:
        """Take what came."""
        ...

    def lost(self, error: Exception | None) -> None:
        """The connection ended."""
        ...

    def expired(self) -> None:
        """The connection's alarm rang."""
        ...

    def give_up(self, error: ForwardError) -> None:
        """End the wait for the answer's head."""
        ...


class ClientConnection(asyncio.Protocol):
    """One connection to an upstream, kept between exchanges.

    What is read at once of an answer that is passed on bit by bit is bounded (`read_in_pieces`): a
    client that takes little of it holds a few pieces.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.should_close = False  # no further exchange
        self.proven = False  # whether an answer ever came on it
        self.since_s = 0.0  # when it became idle, on the loop's clock
        self.full = False  # the far end reads too slowly
        self.drained: Pause | None = None
        self.alarm = Alarm(self.loop, self._expired)
        self._raw = b""  # the last head, as it came
        self._head: ResponseHead | None = None
        self._in_pieces = False
        self.alike: Alike | None = None  # likewise, for exchanges that ask `like_before`

    def __repr__(self) -> str:
        state = "busy" if self.exchange else "idle" if self.is_connected() else "closed"
        return f"{type(self).__name__}({state})"

    @property
    def head(self) -> ResponseHead | None:
        """The last head that was read; what is `alike` was not."""
        return self._head

    def is_connected(self) -> bool:
        """Return whether it is open."""
        return self.transport is not None and not self.transport.is_closing()

    def force_close(self) -> None:
        """Give it no further exchange."""
        self.should_close = True

    def close(self) -> None:
        """Close it; what is written is still sent."""
        self.should_close = True
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Break it."""
        self.should_close = True
        if self.transport is not None:
            self.transport.abort()

    # ------------------------------------------------------------ what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def send(self, pieces: tuple[bytes, ...]) -> None:
        """Send a whole request, if it is still open."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(b"".join(pieces))

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        if self.exchange is not None:
            self.exchange.feed(data)
        else:
            self.spoke(data)

    def read_in_pieces(self, *, bounded: bool) -> None:
        """Read bounded pieces from now on, or all that is there at once."""
        if bounded is self._in_pieces or self.transport is None or self.transport.is_closing():
            return
        self._in_pieces = bounded
        self.transport.set_protocol(InPieces(self) if bounded else self)

    def head_of(self, raw: bytes, *, to_head: bool) -> ResponseHead:
        """Return a head; answers that follow each other often have the same."""
        if raw == self._raw and self._head is not None and not to_head:
            return self._head
        head = parse_response(raw, to_head=to_head)
        if not to_head:
            self._raw, self._head, self.alike = raw, head, None
        return head

    def like_before(self, raw: bytes) -> tuple[ResponseHead, Alike] | None:
        """Return a head like this one, and in what they differ (the values of ANSWERS_VARY); None
        for what is not understood, or would have to be read anew each time."""
        alike, head = self.alike, self._head
        if alike is not None and head is not None and alike.fits(raw):
            return head, alike
        try:
            head = self.head_of(raw, to_head=False)
        except BadMessage:
            return None
        self.alike = alike = Alike(self._raw, ANSWERS_VARY)
        return (head, alike) if alike.plain and alike.fits(raw) else None

    def spoke(self, data: bytes) -> None:
        """Something came unasked: the far end means something else than we do."""
        self.abort()

    def eof_received(self) -> bool | None:
        """The far end sends no more; the transport closes."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self.should_close = True
        self.alarm.close()
        self.resume_writing()
        if self.exchange is not None:
            self.exchange.lost(exc)

    def pause_writing(self) -> None:
        """The far end takes less than we send."""
        self.full = True

    def resume_writing(self) -> None:
        """It takes more again."""
        self.full = False
        if self.drained is not None:
            drained, self.drained = self.drained, None
            drained.wake()

    def _expired(self) -> None:
        if self.exchange is not None:
            self.exchange.expired()
