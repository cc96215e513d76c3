"""Bodies of requests read with patience that ends, and answers written to clients that read.

Input: a Request of ours. Output: the bytes of its body as they come, or an error when the client is
too slow or sends too much; answers written with backpressure, where a client that stops reading is
cut off. (`server` has the same for aiohttp's requests.)
"""

from collections.abc import AsyncIterator

from federation.relay.connections import cut_off
from federation.relay.errors import SlowClient
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
    while piece := await reader.piece():
        pieces.add(piece)
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

    def add(self, piece: bytes) -> None:
        """Keep another piece."""
        self.size += len(piece)
        if len(piece) < _TINY_BYTES:
            self._tiny += piece
            return
        if self._tiny:
            self._pieces.append(bytes(self._tiny))
            self._tiny.clear()
        self._pieces.append(piece)

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
        body, limits = self._body, self._limits
        if body is None:
            return b""
        while not (content := body.take()) and not body.ended:
            enough_s = limits.grace_s + self._received / limits.min_bytes_per_s
            allowed_s = min(limits.total_s, enough_s)
            began_s = self._connection.now()
            try:
                await self._connection.body_piece(body, allowed_s - self._waited_s)
            except TimeoutError:
                raise SlowClient(
                    "The request's body came too slowly: "
                    f"{self._received} bytes in {allowed_s:.0f} s."
                ) from None
            self._waited_s += self._connection.now() - began_s
        return self._counted(content)

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
