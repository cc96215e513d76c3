"""One HTTP/2 connection, either side: what all its streams share.

Input: bytes of the transport, frames from streams. Output: frames, collected while all that came in
one turn of the loop is worked on, and written together after it (`Switch.flush_soon`). Subclasses
say what streams are: `client.Client` (we are the server) and `upstream.Up` (we are the client).
"""

import asyncio
from typing import TYPE_CHECKING, cast

from federation.relay.h2.blocks import TABLE_0
from federation.relay.h2.flow import QUANTUM_BYTES, Piece
from federation.relay.h2.splitter import Splitter
from federation.relay.h2.wire import (
    ACK,
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_STREAM,
    MAX_WINDOW,
    PING,
    SETTINGS,
    Broken,
    Code,
    frame,
    goaway,
    header_frames,
    pack_head,
    settings,
    window_update,
)

if TYPE_CHECKING:
    from federation.relay.h2.stream import Stream
    from federation.relay.h2.switch import Switch

_COPIED_BYTES = 16 * 1024  # a longer piece is not copied before it is written
_MOST_CONTROL = 1000  # frames that want an answer, in
_CONTROL_S = 10.0
_ENDS = END_HEADERS | END_STREAM
_LARGEST_FRAME = (1 << 24) - 1


class Connection(asyncio.Protocol):
    """The shared half of both sides."""

    is_client = False

    def __init__(self, switch: "Switch") -> None:
        self.switch = switch
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.paused = False
        self.paused_s = 0.0  # since when
        self.busy_s = switch.now()  # when something ran last
        self.streams: dict[int, Stream] = {}
        self.blocked: dict[Stream, None] = {}
        self.last = 0  # the highest stream
        self.window = DEFAULT_WINDOW
        self.stream_window = DEFAULT_WINDOW  # what the far end takes of a new stream
        self.max_frame = DEFAULT_FRAME
        self.max_streams = MAX_STREAM
        self._splitter = Splitter(self, switch.limits.frame)
        limits = switch.limits
        self.most_whole = (
            min(limits.frame, limits.window) << 8 | 255
        )  # a frame's head, and its kind
        self._owed = 0  # bytes of bodies that came, and whose room was not given back yet
        self._owed_most = switch.limits.connection_window >> 2
        self._out: list[Piece] = []
        self._out_is_large = False  # not worth to be copied into one piece
        self._table_news = False  # our next block has to tell that we index nothing
        self._control: tuple[float, int] = (self.busy_s, 0)

    # ------------------------------------------------------------ the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.transport.set_write_buffer_limits(high=self.switch.limits.high_water)

    def data_received(self, data: bytes) -> None:
        """Work on what came."""
        switch = self.switch
        switch.read_s = switch.now()
        if not self.closed:
            try:
                self._splitter.feed(data)
            except Broken as broken:
                self.die(broken.code, broken.why)
        if switch.dirty:
            switch.flush_soon()

    def pause_writing(self) -> None:
        """The transport is full: streams wait."""
        self.paused, self.paused_s = True, self.switch.now()

    def resume_writing(self) -> None:
        """The transport has room: streams go on."""
        self.paused = False
        self._unblock()
        self.switch.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, whoever ended it."""
        self.end("the connection was lost")
        self.switch.flush()

    def flush(self) -> None:
        """Write what was collected."""
        out, self._out = self._out, []
        transport = self.transport
        if not out or transport is None or transport.is_closing():
            return
        if self._out_is_large:
            self._out_is_large = False
            transport.writelines(out)
        else:
            transport.write(b"".join(out))

    def close(self) -> None:
        """Write what was collected, then close."""
        if self.transport is not None:
            self.flush()
            self.transport.close()

    def die(self, code: Code, why: str) -> None:
        """End a connection whose far end broke the rules, with all its streams."""
        if self.closed:
            return
        self.switch.counts.broke(client=self.is_client, why=why)
        self.send(goaway(self.last, code, why))
        self.close()
        self.end(why)

    def end(self, why: str) -> None:
        """Do what has to be done when the connection is over; a second call changes nothing."""
        raise NotImplementedError

    # ------------------------------------------------------------ writing

    def send(self, data: bytes) -> None:
        """Write whole frames."""
        if not self._out:
            self.switch.dirty.append(self)
        self._out.append(data)

    def send_data(self, head: bytes, piece: Piece) -> None:
        """Write a DATA frame."""
        if not self._out:
            self.switch.dirty.append(self)
        self._out.append(head)
        self._out.append(piece)
        if len(piece) > _COPIED_BYTES:
            self._out_is_large = True

    def send_block(self, stream: int, block: bytes, *, last: bool) -> None:
        """Write a header block."""
        if self._table_news:
            self._table_news, block = False, TABLE_0 + block
        for piece in header_frames(stream, block, self.max_frame, last=last):
            self.send(piece)

    def takes(self, size: int, longest: int) -> bool:
        """Whether a whole message of `size` bytes can go out on a new stream at once: nobody waits,
        there is room for it, and no frame is longer than `longest` or the message."""
        return (
            size <= self.window
            and size <= self.stream_window
            and (size | longest) <= self.max_frame
            and not (self.paused or self.blocked or self._table_news)
        )

    def send_call(self, stream: int, block: bytes, body: bytes) -> None:
        """Write a header block and a body that ends the stream; what `takes` allowed."""
        out, size = self._out, len(body)
        if not out:
            self.switch.dirty.append(self)
        self.window -= size
        if size > _COPIED_BYTES:
            self._out_is_large = True
        out += (
            pack_head(len(block) << 8 | HEADERS, END_HEADERS, stream),
            block,
            pack_head(size << 8 | DATA, END_STREAM, stream),
            body,
        )

    def send_answer(self, stream: int, block: bytes, body: bytes, trailers: bytes) -> None:
        """Write a header block, a body and trailers; what `takes` allowed."""
        out, size, head, tail = self._out, len(body), len(block), len(trailers)
        if not out:
            self.switch.dirty.append(self)
        self.window -= size
        if size > _COPIED_BYTES:
            self._out_is_large = True
        out += (
            pack_head(head << 8 | HEADERS, END_HEADERS, stream),
            block,
            pack_head(size << 8 | DATA, 0, stream),
            body,
            pack_head(tail << 8 | HEADERS, _ENDS, stream),
            trailers,
        )

    def greeting(self, pairs: tuple[tuple[int, int], ...]) -> bytes:
        """Return our SETTINGS, and the credit that opens the connection's window."""
        limits = self.switch.limits
        common = ((INITIAL_WINDOW_SIZE, limits.window), (MAX_FRAME_SIZE, limits.frame))
        more = limits.connection_window - DEFAULT_WINDOW
        return settings((*pairs, *common)) + window_update(0, more)

    # ------------------------------------------------------------ what the far end says

    def count_control(self) -> None:
        """Bound the frames that make us answer; raises Broken."""
        since_s, count = self._control
        if count >= _MOST_CONTROL:
            now_s = self.switch.now()
            if now_s - since_s < _CONTROL_S:
                raise Broken(Code.ENHANCE_YOUR_CALM, "too many control frames")
            since_s, count = now_s, 0
        self._control = since_s, count + 1

    def on_block(self, stream: int, block: bytes, *, ended: bool) -> None:
        """A header block came; raises Broken."""
        raise NotImplementedError

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of a body came; raises Broken."""
        raise NotImplementedError

    def take_whole(self, data: bytes, at: int) -> int:
        """Take calls, or answers, all of whose frames came together; see `Sink`. Raises Broken."""
        raise NotImplementedError

    def on_reset(self, stream: int, code: int) -> None:
        """The far end gave a stream up; raises Broken."""
        raise NotImplementedError

    def on_settings_taken(self) -> None:
        """Our settings are in use."""
        raise NotImplementedError

    def on_goaway(self, last: int, code: int) -> None:
        """The far end takes no streams above `last`."""
        raise NotImplementedError

    def on_ping(self, payload: bytes) -> None:
        """Answer."""
        self.count_control()
        self.send(frame(PING, ACK, 0, payload))

    def on_pong(self) -> None:
        """Nobody asked."""

    def on_settings(self, pairs: list[tuple[int, int]]) -> None:
        """Do as the far end wishes; raises Broken."""
        self.count_control()
        for key, value in pairs:
            if key == INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise Broken(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
                change, self.stream_window = value - self.stream_window, value
                self.windows_changed(change)
            elif key == MAX_FRAME_SIZE:
                if not DEFAULT_FRAME <= value <= _LARGEST_FRAME:
                    raise Broken(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
                self.max_frame = min(value, QUANTUM_BYTES)
            elif key == ENABLE_PUSH and value > 1:
                raise Broken(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
            elif key == MAX_CONCURRENT_STREAMS:
                self.max_streams = value
        self._table_news = True
        self.send(frame(SETTINGS, ACK, 0))
        self.settings_came()

    def settings_came(self) -> None:
        """The far end's settings are in use now."""

    def windows_changed(self, change: int) -> None:
        """The windows of all streams changed; raises Broken."""
        raise NotImplementedError

    def on_window(self, stream: int, size: int) -> None:
        """Send on what waited; raises Broken."""
        if stream:
            self.stream_window_grew(stream, size)
            return
        self.window += size
        if self.window > MAX_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "the window is above 2^31 - 1")
        self._unblock()

    def stream_window_grew(self, stream: int, size: int) -> None:
        """The far end takes more of one stream; raises Broken."""
        raise NotImplementedError

    def _unblock(self) -> None:
        """Let those go on that wait for this connection, one after the other."""
        while self.blocked and self.window > 0 and not self.paused and not self.closed:
            stream = next(iter(self.blocked))
            del self.blocked[stream]
            self.resume(stream)

    def resume(self, stream: "Stream") -> None:
        """Let one stream send a little."""
        raise NotImplementedError

    def charge(self, size: int) -> None:
        """Count bytes of a body that came, and give their room back at once: a slow stream must
        not stop the others. Raises Broken."""
        owed = self._owed = self._owed + size
        if owed >= self._owed_most:
            if owed > self.switch.limits.connection_window:
                raise Broken(Code.FLOW_CONTROL_ERROR, "more was sent than the connection's window")
            self.send(window_update(0, owed))
            self._owed = 0

    def idle(self, now_s: float) -> bool:
        """Return whether nothing has run for longer than is granted."""
        return not self.streams and now_s - self.busy_s > self.switch.limits.idle_s


def streams_of(connection: Connection) -> "list[Stream]":
    """Return the streams as they are now; they may end while one goes through them."""
    return list(connection.streams.values())
