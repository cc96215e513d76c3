"""What the connections of one server have in common.

Input: the application, the ceilings and the deadlines of a server. Output: read by each of its
connections.
"""

import asyncio
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol

from federation.relay.http1.heads import BadMessage
from federation.relay.http1.messages import Request, StreamResponse
from federation.relay.http1.outbox import Outbox
from federation.relay.http1.quick import Quick
from federation.relay.transport import Takeover

if TYPE_CHECKING:
    from federation.relay.connections import Connections
    from federation.relay.http1.server import ServerConnection


class Respond(Protocol):
    """What the connection asks of an application."""

    on_h2: Takeover | None
    quick: Quick | None

    def respond(self, request: Request) -> Coroutine[Any, Any, None]:
        """Answer a request, whatever happens; raises nothing but CancelledError."""
        ...

    def settle(self, request: Request) -> Coroutine[Any, Any, None]:
        """Wait until the client has taken enough of an answer that was sent."""
        ...

    def about_to_answer(self, request: Request, response: StreamResponse) -> None:
        """Look at an answer before its head is written."""
        ...

    def not_understood(self, error: BadMessage) -> bytes:
        """Return the whole answer to what is no request."""
        ...


class House:
    """What the connections of one server have in common."""

    def __init__(
        self,
        application: Respond,
        connections: "Connections",
        make: "Callable[[House], ServerConnection]",
        *,
        keepalive_s: float,
        lingering_s: float,
    ) -> None:
        self.application = application
        self.open = connections
        self._make = make
        self.keepalive_s = keepalive_s
        self.lingering_s = lingering_s
        self.draining = False
        self.connections: set[ServerConnection] = set()
        self.emptied = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.outbox = Outbox(self._loop)
        self.now_s = self._loop.time
        self._second, self._date = -1, ""
        self._end = self._last_end = b""  # of a head: the date

    def __repr__(self) -> str:
        return f"House({len(self.connections)} connections)"

    def __call__(self) -> "ServerConnection":
        """Return the protocol of a new connection."""
        return self._make(self)

    def date(self) -> str:
        """Return this second as HTTP writes it."""
        second = int(self._loop.time())
        if second != self._second:
            self._second, self._date = second, formatdate(usegmt=True)
            self._end = f"Date: {self._date}\r\n\r\n".encode()
            self._last_end = f"Date: {self._date}\r\nConnection: close\r\n\r\n".encode()
        return self._date

    def head_end(self, now_s: float, *, closes: bool) -> bytes:
        """Return what concerns the connection of an answer's head, with the end of the head."""
        if int(now_s) != self._second:
            self.date()
        return self._last_end if closes else self._end
