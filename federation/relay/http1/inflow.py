"""A body on its way in: between the connection that brings it and the one who reads it.

Input: pieces as the connection reads them, then an end or an error. Output: the pieces, in order.
A reader that falls behind stops the connection from reading (backpressure): little is held.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from federation.relay.http1.chunks import ChunkReader
from federation.relay.http1.heads import UNTIL_CLOSE
from federation.relay.http1.waiting import Pause

HELD_BYTES = 64 * 1024  # from which on the far end has to wait
Taker = Callable[[bytes], Pause | None]


class Inflow:
    """One body. `ended` = all of it has come, though perhaps not been taken; `left` counts what is
    to come of a body whose length is known."""

    __slots__ = (
        *(
            "_chunks",
            "_dropped",
            "_error",
            "_held",
            "_loop",
            "_pause",
            "_paused",
            "_pieces",
            "_taker",
            "_trouble",
            "_transport",
        ),
        *("ended", "left", "received", "wait"),
    )

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, length: int
    ) -> None:
        self.left = length
        self.ended = not length
        self.received = 0
        self._chunks: ChunkReader | None = None
        self._transport = transport
        self._loop = loop
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._paused = self._dropped = False
        self._pause: Pause | None = None
        self._error: BaseException | None = None
        self._taker: Taker | None = None  # takes pieces as they come
        self._trouble: BaseException | None = None  # that it had
        self.wait: Pause | None = None  # what it wants to be waited for

    def __repr__(self) -> str:
        return f"Inflow(received={self.received}, held={self._held}, ended={self.ended})"

    def expect_chunks(self) -> None:
        """The body is chunked."""
        self._chunks, self.ended, self.left = ChunkReader(), False, UNTIL_CLOSE

    @property
    def closes(self) -> bool:
        """Whether the end of the connection is the end of this body, and its only one."""
        return self.left == UNTIL_CLOSE and self._chunks is None

    # ------------------------------------------------------------ the connection's side

    def feed(self, data: bytes) -> int:
        """Take what came; return how many of its bytes belong to this body. Raises BadMessage."""
        if self._chunks is not None:
            content, used = self._chunks.feed(data)
            self.ended = self._chunks.done
        elif self.left < 0:
            content, used = data, len(data)
        elif len(data) <= self.left:
            content, used = data, len(data)
            self.left -= used
            self.ended = not self.left
        else:
            content, used = data[: self.left], self.left
            self.left, self.ended = 0, True
        if not content:
            pass
        elif self._taker is not None and not self._dropped:
            self.received += len(content)
            self._pour(self._taker, content)
        else:
            self._put(content)
        if self.ended and self._paused:
            self._resume()
        return used

    def finish(self) -> bool:
        """The connection ended; return whether that is the body's end."""
        if self.closes and not self.ended:
            self.ended = True
            self.wake()
        return self.ended

    def fail(self, error: BaseException) -> None:
        """No more will come."""
        if not self.ended and self._error is None:
            self._error = error
            self.wake()

    def wake(self, error: BaseException | None = None) -> None:
        """Let the reader look again; called after `feed`, when the connection is in order."""
        if self._pause is None:
            return
        if self._taker is not None and not self.ended and error is None and self._error is None:
            return  # there is nothing to do for who waits
        pause, self._pause, self._taker = self._pause, None, None
        pause.wake(error or self._trouble)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the next piece."""
        return self._pause is not None

    def _put(self, content: bytes) -> None:
        self.received += len(content)
        if self._dropped:
            return
        self._held += len(content)
        self._pieces.append(content)
        if self._held > HELD_BYTES and not self.ended:
            self._paused = True
            self._transport.pause_reading()

    def _pour(self, taker: Taker, content: bytes) -> None:
        """Hand a piece on; what goes wrong comes out where the body is waited for."""
        try:
            self.wait = taker(content)
        except Exception as error:  # noqa: BLE001  # it is raised there
            self._taker, self._trouble = None, error
        else:
            if self.wait is not None:
                self._taker = None

    def _resume(self) -> None:
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # ------------------------------------------------------------ the reader's side

    def take(self) -> bytes:
        """Return all that is held, b"" if nothing is; raises what `fail` was called with, after the
        last piece."""
        pieces = self._pieces
        if not pieces:
            if self._error is not None and not self.ended:
                raise self._error
            return b""
        if len(pieces) == 1:
            content = pieces.popleft()
        else:
            content = b"".join(pieces)
            pieces.clear()
        self._held = 0
        if self._paused:
            self._resume()
        return content

    @property
    def at_end(self) -> bool:
        """Whether everything has come and was taken."""
        return self.ended and not self._pieces

    @property
    def whole(self) -> bool:
        """Whether everything has come: `take` returns the rest."""
        return self.ended

    def pause(self) -> Pause:
        """Return the wait for the next piece; to be awaited when `take` returned nothing."""
        if self._pause is None:
            self._pause = Pause(self._loop)
        return self._pause

    async def pour(self, taker: Taker) -> Pause | None:
        """Hand pieces to `taker` as they come, without waking who waits here, to the end of the
        body; or until it returns something to be waited for before the next piece, which this
        returns. Raises as `take` does, and what `taker` raised; to be called when `take` returned
        nothing."""
        self._taker, self.wait = taker, None
        try:
            await self.pause()
        finally:
            self._taker = None
        wait, self.wait = self.wait, None
        return wait

    def drop(self) -> None:
        """Forget what is held and let the rest come: nobody reads it."""
        self._pieces.clear()
        self._held = 0
        self._dropped = True
        if self._paused:
            self._resume()
