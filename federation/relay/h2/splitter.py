"""Bytes of one HTTP/2 connection, split into frames and checked.

Input: what a connection received, in any pieces. Output: calls of a Sink, one for each thing that
was said; or Broken, after which nothing more must be fed. A header block comes whole; of a DATA
frame each piece is passed on as it comes, for where its frames end means nothing.
"""

import struct
from collections.abc import Callable
from typing import Protocol

from federation.relay.h2.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADERS,
    MAX_STREAM,
    PADDED,
    SETTINGS,
    Broken,
    Code,
    read_head,
    read_u32,
)

_LONGEST_BLOCK = 32 * 1024
_MOST_CONTINUATIONS = 16
_MOST_USELESS = 10_000  # frames that say nothing, between two that do
_STREAM = MAX_STREAM


class Sink(Protocol):
    """What is told of the frames. `size` counts what flow control counts: padding, too."""

    closed: bool

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of a body came."""

    def on_block(self, stream: int, block: bytes, *, ended: bool) -> None:
        """A whole header block came."""

    def take_whole(self, data: bytes, at: int) -> int:
        """HEADERS without padding may begin at `at`; return where the first frame begins that is
        not taken here, with all that stands before it: only frames that came whole are taken."""

    def on_reset(self, stream: int, code: int) -> None:
        """The far end gave a stream up."""

    def on_window(self, stream: int, size: int) -> None:
        """The far end takes `size` more bytes; stream 0 is the connection."""

    def on_settings(self, pairs: list[tuple[int, int]]) -> None:
        """The far end told its settings."""

    def on_settings_taken(self) -> None:
        """The far end acted on ours."""

    def on_ping(self, payload: bytes) -> None:
        """The far end wants an answer."""

    def on_pong(self) -> None:
        """The far end answered."""

    def on_goaway(self, last: int, code: int) -> None:
        """The far end takes no streams above `last`."""


class Splitter:
    """One connection's read side. `max_frame` is what we announced."""

    def __init__(self, sink: Sink, max_frame: int) -> None:
        self._sink = sink
        self._max_frame = max_frame
        self._held = b""
        self._left = 0  # of a DATA frame that is not complete
        self._left_stream = 0
        self._left_ends = False
        self._block_of = 0  # the stream whose header block is not complete
        self._block = bytearray()
        self._block_ends = False
        self._continuations = 0
        self._watch = True  # the next frame must be of a certain kind
        self._greeted = False
        self._useless = 0
        self._readers: tuple[Callable[[int, int, bytes, int, int], None], ...] = (
            self._data,
            self._headers,
            self._priority,
            self._reset,
            self._settings,
            self._push_promise,
            self._ping,
            self._goaway,
            self._window,
            self._continuation,
        )

    def __repr__(self) -> str:
        return f"Splitter(held={len(self._held)}, block={len(self._block)}, left={self._left})"

    @property
    def partial(self) -> bool:
        """Whether a frame or a header block has begun and not ended."""
        return bool(self._held or self._left or self._block_of)

    def feed(self, data: bytes) -> None:
        """Read what came; raises Broken."""
        sink = self._sink
        if self._held:
            data, self._held = self._held + data, b""
        elif not (self._left or self._watch):
            after = sink.take_whole(data, 0)  # as nearly always
            if after:
                self._useless = 0
                if after == len(data) or sink.closed:
                    return
                data = data[after:]
        at = self._rest_of_data(data) if self._left else 0
        end = len(data)
        while end - at >= 9:
            after = at
            if data[at + 3] == HEADERS and data[at + 4] == END_HEADERS and not self._watch:
                after = sink.take_whole(data, at)
            if after == at:
                after = self._frame(data, at, end)
            else:
                self._useless = 0
            if sink.closed or not after:
                return
            at = after
        if at < end:
            self._held = data[at:]

    def _frame(self, data: bytes, at: int, end: int) -> int:
        """Read one frame; return where it ends, 0 if there is nothing more to read for now."""
        head, flags, stream = read_head(data, at)
        stream &= _STREAM
        length, kind = head >> 8, head & 255
        stop = at + 9 + length
        if length > self._max_frame:
            raise Broken(Code.FRAME_SIZE_ERROR, "the frame is too large")
        if self._watch:
            self._expected(kind, flags, stream)
        if stop > end:
            begun = kind == DATA and self._begin_data(flags, stream, data[at + 9 :], stop - end)
            self._held = b"" if begun else data[at:]
            return 0
        if kind <= CONTINUATION:
            self._readers[kind](flags, stream, data, at + 9, stop)
        else:
            self._says_nothing()
        return int(stop)

    def _expected(self, kind: int, flags: int, stream: int) -> None:
        if not self._greeted:
            if kind != SETTINGS or flags & ACK:
                raise Broken(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._greeted = True
        elif kind != CONTINUATION or stream != self._block_of:
            raise Broken(Code.PROTOCOL_ERROR, "a header block is not complete")
        self._watch = self._block_of != 0

    def _says_nothing(self) -> None:
        self._useless += 1
        if self._useless > _MOST_USELESS:
            raise Broken(Code.ENHANCE_YOUR_CALM, "too many frames that say nothing")

    # ------------------------------------------------------------ bodies and header blocks

    def _rest_of_data(self, data: bytes) -> int:
        """Pass on the rest of an incomplete DATA frame; return where the next frame begins."""
        size = min(self._left, len(data))
        if not size:
            return 0
        self._left -= size
        ended = self._left_ends and not self._left
        self._sink.on_data(self._left_stream, data[:size], size, ended=ended)
        return len(data) if self._sink.closed else size

    def _begin_data(self, flags: int, stream: int, data: bytes, left: int) -> bool:
        """Pass on the beginning of a DATA frame; False if it has to be waited for."""
        if flags & PADDED or not stream or not data:
            return False
        self._left, self._left_stream, self._left_ends = left, stream, bool(flags & END_STREAM)
        self._sink.on_data(stream, data, len(data), ended=False)
        return True

    def _data(self, flags: int, stream: int, data: bytes, at: int, stop: int) -> None:
        if not stream:
            raise Broken(Code.PROTOCOL_ERROR, "DATA on stream 0")
        size = stop - at
        if flags & PADDED:
            if not size or data[at] >= size:
                raise Broken(Code.PROTOCOL_ERROR, "padding is longer than its frame")
            at, stop = at + 1, stop - data[at]
        if at == stop and not flags & END_STREAM:
            self._says_nothing()
        else:
            self._useless = 0
        self._sink.on_data(stream, data[at:stop], size, ended=bool(flags & END_STREAM))

    def _headers(self, flags: int, stream: int, data: bytes, at: int, stop: int) -> None:
        if not stream:
            raise Broken(Code.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & (PADDED | HAS_PRIORITY):
            at, stop = self._unwrapped(flags, stream, data, at, stop)
        self._useless = 0
        if flags & END_HEADERS:
            self._sink.on_block(stream, data[at:stop], ended=bool(flags & END_STREAM))
            return
        self._block_of, self._block = stream, bytearray(data[at:stop])
        self._block_ends, self._continuations = bool(flags & END_STREAM), 0
        self._watch = True

    def _unwrapped(
        self, flags: int, stream: int, data: bytes, at: int, stop: int
    ) -> tuple[int, int]:
        """Return where the block lies in a HEADERS frame with padding or priority."""
        if flags & PADDED:
            if at == stop:
                raise Broken(Code.FRAME_SIZE_ERROR, "HEADERS is too short")
            at, stop = at + 1, stop - data[at]
        if flags & HAS_PRIORITY:
            if at + 5 <= stop and read_u32(data, at)[0] & _STREAM == stream:
                raise Broken(Code.PROTOCOL_ERROR, "a stream depends on itself")
            at += 5
        if at > stop:
            raise Broken(Code.PROTOCOL_ERROR, "padding is longer than its frame")
        return at, stop

    def _continuation(self, flags: int, stream: int, data: bytes, at: int, stop: int) -> None:
        if not self._block_of:
            raise Broken(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block += data[at:stop]
        self._continuations += 1
        if len(self._block) > _LONGEST_BLOCK or self._continuations > _MOST_CONTINUATIONS:
            raise Broken(Code.ENHANCE_YOUR_CALM, "the header block is too large")
        if flags & END_HEADERS:
            block, self._block_of, self._watch = bytes(self._block), 0, False
            self._block = bytearray()
            self._sink.on_block(stream, block, ended=self._block_ends)

    # ------------------------------------------------------------ everything else

    def _window(self, _flags: int, stream: int, data: bytes, at: int, stop: int) -> None:
        if stop - at != 4:
            raise Broken(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        size = read_u32(data, at)[0] & _STREAM
        if not size and not stream:
            raise Broken(Code.PROTOCOL_ERROR, "a window update of 0")
        self._sink.on_window(stream, size)

    def _reset(self, _flags: int, stream: int, data: bytes, at: int, stop: int) -> None:
        if stop - at != 4:
            raise Broken(Code.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        if not stream:
            raise Broken(Code.PROTOCOL_ERROR, "RST_STREAM on stream 0")
        self._sink.on_reset(stream, read_u32(data, at)[0])

    def _settings(self, flags: int, stream: int, data: bytes, at: int, stop: int) -> None:
        if stream:
            raise Broken(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if stop != at:
                raise Broken(Code.FRAME_SIZE_ERROR, "SETTINGS ACK with a payload")
            self._sink.on_settings_taken()
            return
        if (stop - at) % 6:
            raise Broken(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        self._sink.on_settings(list(struct.iter_unpack(">HI", data[at:stop])))

    def _ping(self, flags: int, stream: int, data: bytes, at: int, stop: int) -> None:
        if stop - at != 8:
            raise Broken(Code.FRAME_SIZE_ERROR, "PING of a wrong length")
        if stream:
            raise Broken(Code.PROTOCOL_ERROR, "PING on a stream")
        if flags & ACK:
            self._says_nothing()
            self._sink.on_pong()
        else:
            self._sink.on_ping(data[at:stop])

    def _goaway(self, _flags: int, stream: int, data: bytes, at: int, stop: int) -> None:
        if stream:
            raise Broken(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
        if stop - at < 8:
            raise Broken(Code.FRAME_SIZE_ERROR, "GOAWAY is too short")
        self._sink.on_goaway(read_u32(data, at)[0] & _STREAM, read_u32(data, at + 4)[0])

    def _priority(self, _flags: int, stream: int, _data: bytes, at: int, stop: int) -> None:
        if stop - at != 5:
            raise Broken(Code.FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
        if not stream:
            raise Broken(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._says_nothing()

    def _push_promise(self, _flags: int, _stream: int, _data: bytes, _at: int, _stop: int) -> None:
        raise Broken(Code.PROTOCOL_ERROR, "PUSH_PROMISE")
