"""Bodies of requests read with patience that ends, and answers written to clients that read.

Input: a Request of ours. Output: the bytes of its body as they come, or an error when the client is
too slow or sends too much; answers written with backpressure, where a client that stops reading is
cut off. (`server` has the same for aiohttp's requests.)
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from federation.relay.connections import cut_off
from federation.relay.errors import SlowClient
from federation.relay.http1.inflow import Inflow, Taker
from federation.relay.http1.messages import Request, StreamResponse
from federation.relay.http1.waiting import Pause
from federation.relay.server import BodyLimits, ClientStalled, too_large

_TINY_BYTES = 4096


async def iter_body(request: Request, limits: BodyLimits) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes.

    Raises TooLarge, SlowClient, or Invalid if the body is broken.
    """
    check_length(request, limits)
    reader = BodyReader(request, limits)
    while piece := await reader.piece():
        yield piece


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """Return a request's whole body; raises as iter_body does."""
    check_length(request, limits)
    reader = BodyReader(request, limits)
    if (whole := reader.whole()) is not None:
        return whole
    pieces = Pieces()
    await reader.gather(pieces.add)
    return pieces.joined()


class Pieces:
    """Pieces of a body that are kept: large ones as they are, tiny ones together, since each on its
    own would take many times its size."""

    __slots__ = ("_pieces", "_tiny", "size")

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []
        self._tiny = bytearray()

    def __repr__(self) -> str:
        return f"Pieces({self.size} bytes)"

    def add(self, piece: bytes) -> bool:
        """Keep another piece; there is always room."""
        self.size += len(piece)
        if len(piece) < _TINY_BYTES:
            self._tiny += piece
            return True
        if self._tiny:
            self._settle()
        self._pieces.append(piece)
        return True

    def _settle(self) -> None:
        self._pieces.append(bytes(self._tiny))
        self._tiny.clear()

    def all(self) -> tuple[bytes, ...]:
        """Return them, in order: not one by one as they were added, and not copied."""
        if self._tiny:
            self._settle()
        return tuple(self._pieces)

    def joined(self) -> bytes:
        """Return all of them as one."""
        return b"".join((*self._pieces, self._tiny))


class BodyReader:
    """Reads one body. Only time spent waiting for the client counts."""

    __slots__ = ("_body", "_connection", "_limits", "_received", "_waited_s")

    def __init__(self, request: Request, limits: BodyLimits) -> None:
        self._body = request.body
        self._connection = request.connection
        self._limits = limits
        self._waited_s = 0.0
        self._received = 0

    def __repr__(self) -> str:
        return f"BodyReader(received={self._received})"

    def whole(self) -> bytes | None:
        """Return all of the body if it has come, else None; raises TooLarge."""
        body = self._body
        if body is None:
            return b""
        return self._counted(body.take()) if body.whole else None

    async def piece(self) -> bytes:
        """Return the next piece, b"" at the end; raises TooLarge, SlowClient, Invalid."""
        body = self._body
        if body is None:
            return b""
        while not (content := body.take()) and not body.ended:
            await self._more(body)
        return self._counted(content)

    async def gather(self, add: Callable[[bytes], bool]) -> bool:
        """Give the pieces to `add` as they come, until it returns False; return whether that was
        all of the body. Nobody is woken in between. Raises as `piece` does."""
        body = self._body
        if body is None:
            return True
        enough = Pause(asyncio.get_running_loop())

        def take(piece: bytes) -> Pause | None:
            return None if add(self._counted(piece)) else enough

        while (content := body.take()) or not body.ended:
            stopped = take(content) if content else await self._more(body, take)
            if stopped is not None:
                return False
        return True

    async def _more(self, body: Inflow, taker: Taker | None = None) -> Pause | None:
        """Wait for more of the body, as long as what has come allows; what comes meanwhile for the
        `taker` allows more."""
        connection = self._connection
        began_s = connection.now()
        try:
            stopped = await connection.body_piece(body, self._allowed_s() - self._waited_s, taker)
        except TimeoutError:
            self._waited_s += connection.now() - began_s
            allowed_s = self._allowed_s()
            if taker is not None and self._waited_s < allowed_s:
                return None
            raise SlowClient(
                f"The request's body came too slowly: {self._received} bytes in {allowed_s:.0f} s."
            ) from None
        self._waited_s += connection.now() - began_s
        return stopped

    def _allowed_s(self) -> float:
        limits = self._limits
        return min(limits.total_s, limits.grace_s + self._received / limits.min_bytes_per_s)

    def _counted(self, content: bytes) -> bytes:
        self._received += len(content)
        if self._received > self._limits.max_bytes:
            raise too_large(self._limits)
        return content


def check_length(request: Request, limits: BodyLimits) -> None:
    """Refuse a body by its announced length, before any of it is read; raises TooLarge."""
    if request.head.length > limits.max_bytes:
        raise too_large(limits)


async def write(request: Request, response: StreamResponse, chunk: bytes, stall_s: float) -> None:
    """Write a piece of the answer as soon as the client takes it.

    Raises ClientStalled if it takes nothing for `stall_s`, ConnectionError if it is gone.
    """
    if (wait := response.put(chunk)) is not None:
        await taken(request, wait, stall_s)


async def taken(request: Request, wait: Pause, stall_s: float) -> None:
    """Wait until the client has taken enough of what was written; raises as `write` does."""
    alarm = request.connection.bound_stall(stall_s)
    try:
        await wait
    except TimeoutError:
        cut_off(request.transport)
        raise ClientStalled(f"the client took nothing for {stall_s:g} s") from None
    finally:
        alarm.clear()


def break_off(request: Request) -> None:
    """End an answer that has begun and cannot be completed, so that the client can tell.

    What was written is still delivered; the closing chunk or the missing bytes are not.
    """
    request.transport.close()
