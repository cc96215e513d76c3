"""What is sent at the end of a turn of the loop, one after the other.

Input: messages, as the callbacks of one turn make them. Output: the same, written when all that
came in this turn was looked at. A write wakes who waits for it, which costs the kernel many times
what the copying does; of many writes in a row most find the far end's processor awake, and the
caches full of what they need. With one request at a time it makes no difference but a turn.
"""

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)


class Sender(Protocol):
    """A connection."""

    def send(self, pieces: tuple[bytes, ...]) -> None:
        """Write one message, if the connection is still open."""
        ...


class Outbox:
    """The messages of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._messages: list[tuple[Sender, tuple[bytes, ...]]] = []

    def __repr__(self) -> str:
        return f"Outbox({len(self._messages)} messages)"

    def put(self, sender: Sender, pieces: tuple[bytes, ...]) -> None:
        """Send a message soon."""
        messages = self._messages
        if not messages:
            self._loop.call_soon(self._send)
        messages.append((sender, pieces))

    def _send(self) -> None:
        messages, self._messages = self._messages, []
        for sender, pieces in messages:
            try:
                sender.send(pieces)
            except Exception:  # one must not keep back the others
                log.exception("a message could not be sent")
