"""A connection to a backend: calls go out, answers come in. Many clients share it.

Input: streams to open, frames of the far end. Output: frames to it, and answers for the streams.
Reading is never paused, for it is shared: what one stream may send is bounded by its window.
"""

import asyncio
from typing import TYPE_CHECKING

from federation.contract.errors import FederationError
from federation.relay.h2.connection import Connection, streams_of
from federation.relay.h2.flow import QUANTUM_BYTES
from federation.relay.h2.service import Failure, Kind
from federation.relay.h2.status import Status, of_reset
from federation.relay.h2.whole import take_answers
from federation.relay.h2.wire import (
    ENABLE_PUSH,
    HEADER_TABLE_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM,
    PING,
    PREFACE,
    Broken,
    Code,
    frame,
    goaway,
)

if TYPE_CHECKING:
    from federation.relay.h2.backend import Backend
    from federation.relay.h2.stream import Stream

_LIST_BYTES = 64 * 1024
_LAST_STREAM = MAX_STREAM - 1000  # a connection is replaced before its numbers run out
_STREAMS_BEFORE_SETTINGS = 100
_RECHECK_S = 0.1
_ALIVE = b"alive??\n"  # what a PING carries says nothing
SIGN_OF_LIFE_S = 3.0


class Up(Connection):
    """One connection to a backend."""

    def __init__(self, backend: "Backend") -> None:
        super().__init__(backend.switch)
        self.backend = backend
        self.ready = False  # its settings came
        self.leaving = False  # it gets no further calls
        self.max_streams = _STREAMS_BEFORE_SETTINGS
        self._next = 1
        self._checked_s = float("-inf")
        self._asked: asyncio.TimerHandle | None = None  # for a sign of life

    def __repr__(self) -> str:
        state = "closed" if self.closed else "leaving" if self.leaving else "open"
        return f"Up({self.backend.name}, {state}, {len(self.streams)} streams)"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet. Its settings may come before whoever dialled hears of the connection."""
        super().connection_made(transport)
        pairs = ((HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), (MAX_HEADER_LIST_SIZE, _LIST_BYTES))
        self.send(PREFACE + self.greeting(pairs))
        self.switch.flush()
        self.backend.made(self)

    @property
    def free(self) -> bool:
        """Whether another call may be opened."""
        return (
            self.ready
            and not self.leaving
            and len(self.streams) < self.max_streams
            and (self.switch.read_s - self._checked_s < _RECHECK_S or self._still_good())
        )

    def _still_good(self) -> bool:
        """Ask now and then whether the certificates still hold."""
        now_s = self.switch.read_s
        if self.transport is not None:
            self._checked_s = now_s
            if not self.backend.dialler.usable(self.transport):
                self.leave()
                return False
        return True

    def open(self, stream: "Stream", block: bytes) -> None:
        """Begin a call. Its number is taken and its block written in one step."""
        number, self._next = self._next, self._next + 2
        self.last, self.busy_s = number, self.switch.now()
        self.streams[number] = stream
        request = stream.request
        request.window = self.stream_window
        request.last_frame = request.ended and not request.pieces
        stream.up, stream.up_number = self, number
        self.send_block(number, block, last=request.last_frame)
        if not request.last_frame:
            stream.pump_request()
        if self._next > _LAST_STREAM:
            self.leave()

    def open_whole(self, stream: "Stream", block: bytes, body: bytes) -> bool:
        """Begin a call that came whole; False if it has to wait for anything."""
        if not self.takes(len(body), len(block)):
            return False
        number = self._next
        self.send_call(number, block, body)
        self._next = number + 2
        self.last, self.busy_s = number, self.switch.read_s
        self.streams[number] = stream
        stream.up, stream.up_number, stream.sent_whole = self, number, True
        if number > _LAST_STREAM:
            self.leave()
        return True

    def leave(self) -> None:
        """Take no further calls; close when the last one ends."""
        if not self.leaving:
            self.leaving = True
            self.backend.left(self)
        self.close_if_done()

    def close_if_done(self) -> None:
        """Close a connection that leaves once nothing runs on it."""
        if self.leaving and not self.streams and not self.closed:
            self.send(goaway(0, Code.NO_ERROR))
            self.close()
            self.end("we closed it")

    def end(self, why: str) -> None:
        """Tell all calls that their attempt failed."""
        if self.closed:
            return
        self.closed = True
        self.leaving = True
        self.backend.left(self)
        self._fail(streams_of(self), Failure(kind=Kind.BROKEN, why=why))
        self.backend.more()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, whoever ended it."""
        super().connection_lost(exc)
        self.on_pong()  # nothing is waited for any more
        self.backend.gone(self)

    def give_up(self, why: str) -> int:
        """End the attempts that wait for the first byte of an answer; return how many. For the
        others the far end is asked for a sign of life."""
        waiting = [stream for stream in streams_of(self) if not stream.begun]
        for stream in waiting:
            stream.lost(Failure(kind=Kind.GIVEN_UP, why=why), reset=Code.CANCEL)
        if self.streams and self._asked is None and not self.closed:
            self.send(frame(PING, 0, 0, _ALIVE))
            loop = asyncio.get_running_loop()
            self._asked = loop.call_later(SIGN_OF_LIFE_S, self._is_silent, why)
        return len(waiting)

    def on_pong(self) -> None:
        """It lives."""
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def _is_silent(self, why: str) -> None:
        """No sign of life came."""
        self.end(why)
        if self.transport is not None:
            self.transport.abort()
        self.switch.flush()

    def _fail(self, streams: "list[Stream]", failure: Failure) -> None:
        for stream in streams:
            stream.lost(failure)

    # ------------------------------------------------------------ frames

    def settings_came(self) -> None:
        """Calls may begin."""
        if not self.ready and self.max_streams == _STREAMS_BEFORE_SETTINGS:
            self.max_streams = self.switch.limits.streams  # it named no bound
        self.ready = True
        self.backend.more()

    def on_settings_taken(self) -> None:
        """Ours are in use; it read them before our first call anyway."""

    def on_block(self, stream: int, block: bytes, *, ended: bool) -> None:
        """Head or trailers of an answer; raises Broken."""
        known = self.streams.get(stream)
        if known is not None:
            known.on_answer_block(block, ended=ended)
        elif stream > self.last or not stream & 1:
            raise Broken(Code.PROTOCOL_ERROR, "an answer to nothing")

    def take_whole(self, data: bytes, at: int) -> int:
        """Take answers that came whole; raises Broken."""
        return take_answers(self, data, at)

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of an answer; raises Broken."""
        self.charge(size)
        known = self.streams.get(stream)
        if known is not None:
            known.on_answer_data(data, size, ended=ended)
        elif stream > self.last:
            raise Broken(Code.PROTOCOL_ERROR, "DATA on a stream that was not begun")

    def on_reset(self, stream: int, code: int) -> None:
        """The far end gave a call up."""
        known = self.streams.get(stream)
        if known is None:
            return
        if known.answer.ended:
            known.detach()  # it has said all that it will say
            return
        kind = Kind.UNPROCESSED if code == Code.REFUSED_STREAM else Kind.BROKEN
        why = f"it reset the call (code {code})"
        known.lost(Failure(kind=kind, why=why, status=of_reset(code)))

    def on_goaway(self, last: int, code: int) -> None:
        """Send no more here; what it did not look at may go elsewhere."""
        self.leaving = True
        self.backend.left(self)
        unseen = [stream for number, stream in self.streams.items() if number > last]
        self._fail(unseen, Failure(kind=Kind.UNPROCESSED, why="it is going away"))
        self.close_if_done()

    def stream_window_grew(self, stream: int, size: int) -> None:
        """The far end takes more of a request; raises Broken."""
        known = self.streams.get(stream)
        if known is None:
            return
        if not known.request.widen(size):
            why = "it opened a window above 2^31 - 1"
            known.lost(Failure(kind=Kind.BROKEN, why=why, status=Status.INTERNAL))
            return
        known.pump_request()

    def windows_changed(self, change: int) -> None:
        """The far end takes more or less of all requests; raises Broken."""
        for stream in streams_of(self):
            if not stream.request.widen(change):
                raise Broken(Code.FLOW_CONTROL_ERROR, "a window is above 2^31 - 1")
            stream.pump_request()

    def resume(self, stream: "Stream") -> None:
        """Let one request go on."""
        stream.pump_request(QUANTUM_BYTES)


def failure_of(error: FederationError) -> Failure:
    """Return the failure of a dial."""
    return Failure(kind=Kind.UNREACHABLE, why=error.message.rstrip("."))
