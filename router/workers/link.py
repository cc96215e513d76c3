"""One end of the stream between a keeper and a worker, on a loop.

Input: a connected socket; messages to send. Output: messages as they come, until the far end is
gone: then the iteration ends.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from federation.contract.errors import Invalid
from router.workers.frames import PREAMBLE, FrameReader, Order, Word, frame

log = logging.getLogger(__name__)
M = TypeVar("M")


class Link(asyncio.Protocol, Generic[M]):
    """A stream of messages. `decode` reads those of the far end."""

    def __init__(self, decode: Callable[[bytes], M]) -> None:
        self._decode = decode
        self._reader = FrameReader()
        self._inbox: asyncio.Queue[M | None] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"Link({'open' if self.is_open else 'closed'}, {self._inbox.qsize()} wait)"

    @property
    def is_open(self) -> bool:
        """Whether anything can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: Order | Word) -> None:
        """Send a message; one that the far end is not there for any more is lost."""
        if self._transport is not None and self.is_open:
            self._transport.write(frame(message))

    def put(self, message: M) -> None:
        """Have a message arrive as if the far end had sent it."""
        self._inbox.put_nowait(message)

    def __aiter__(self) -> "Link[M]":
        return self

    async def __anext__(self) -> M:
        message = await self._inbox.get()
        if message is None:
            raise StopAsyncIteration
        return message

    async def close(self) -> None:
        """Send what was to be sent, and part."""
        if self._transport is not None:
            self._transport.close()
            await self._ended.wait()

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(PREAMBLE)

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        try:
            for body in self._reader.feed(data):
                self._inbox.put_nowait(self._decode(body))
        except Invalid as error:
            log.error("%s", error.sentence())  # noqa: TRY400  # there is nothing else to tell
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        """End."""
        self._inbox.put_nowait(None)
        self._ended.set()


async def attach(sock: socket.socket, decode: Callable[[bytes], M]) -> Link[M]:
    """Return a link on a connected socket, which it owns from now on."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_unix_connection(lambda: Link(decode), sock=sock)
    return link
