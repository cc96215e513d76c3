"""The server's side of a connection, as far as writing goes: answers, and clients that take them
slowly.

Input: the bytes of answers; what the transport tells of its buffer. Output: bytes on the wire, and
waits that end when the client has taken enough, has gone, or has taken nothing for too long.
"""

import asyncio

from federation.relay.http1.heads import write_head
from federation.relay.http1.house import House
from federation.relay.http1.inflow import Inflow, Taker
from federation.relay.http1.messages import Request, StreamResponse
from federation.relay.http1.waiting import Alarm, Pause

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class AnswerWriter(asyncio.Protocol):
    """Writes to one client."""

    __slots__ = (
        *("_alarm", "_closes", "_full", "_house", "_loop", "_remote", "_stall", "_taken"),
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._expired)
        self._closes = False  # with the answer that is given
        self._remote: str | None = None
        self._stall: Alarm | None = None
        self._taken: Pause | None = None
        self._full = False

    @property
    def remote(self) -> str:
        """The client's address, "" where there is none."""
        if self._remote is None:
            peer = self.transport.get_extra_info("peername")
            self._remote = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        return self._remote

    def _expired(self) -> None:
        """Time is up for what the client owes."""
        raise NotImplementedError

    def invite(self, request: Request) -> None:
        """Ask for the body of a client that waits to be asked."""
        if request.head.expects:
            self.write(_CONTINUE)

    def now(self) -> float:
        """Return the loop's clock, in seconds."""
        return self._loop.time()

    async def body_piece(
        self, body: Inflow, patience_s: float, taker: Taker | None = None
    ) -> Pause | None:
        """Wait for the next piece of a body, or let `taker` have all that come (`Inflow.pour`);
        raises TimeoutError."""
        self._alarm.set(max(patience_s, 0.0))
        try:
            if taker is not None:
                return await body.pour(taker)
            await body.pause()
            return None
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
