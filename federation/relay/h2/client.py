"""A client's connection: calls come in, answers go out.

Input: frames of a client, whoever made the connection. Output: a Stream for each call. A connection
that breaks the rules ends with all its calls; one malformed request ends alone.
"""

import asyncio
from typing import TYPE_CHECKING

from federation.contract.errors import Exhausted
from federation.relay.h2.blocks import Stateful
from federation.relay.h2.connection import Connection, streams_of
from federation.relay.h2.flow import QUANTUM_BYTES
from federation.relay.h2.heads import RequestHead, TooLarge
from federation.relay.h2.stream import Stream
from federation.relay.h2.whole import take_calls
from federation.relay.h2.wire import (
    HEADER_TABLE_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM,
    MAX_WINDOW,
    PREFACE,
    Broken,
    Code,
    Malformed,
    goaway,
    reset,
)

if TYPE_CHECKING:
    from federation.relay.h2.switch import Switch
    from federation.relay.transport import Inbound

_SPARE_RESETS = 200
_LIST_BYTES = 16 * 1024
_SECOND_WORD_S = 0.25  # between "soon no more" and "no more from here on"
_NO_HEAD = RequestHead(path=b"", block=b"")


class Client(Connection):
    """One client. It is a `transport.Switched`."""

    is_client = True

    def __init__(self, switch: "Switch", inbound: "Inbound | None") -> None:
        super().__init__(switch)
        self.inbound = inbound
        self._preface = b""
        self._most_streams = switch.limits.streams
        self._greeted = False
        self._stateful: Stateful | None = Stateful()  # until it has taken our settings
        self._resets = 0
        self._draining = False
        self._said_farewell = False
        self._farewell: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "closed" if self.closed else "draining" if self._draining else "open"
        return f"Client({state}, {len(self.streams)} streams)"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        super().connection_made(transport)
        self.switch.clients[self] = None
        self.switch.watch()
        pairs = (
            (HEADER_TABLE_SIZE, 0),
            (MAX_CONCURRENT_STREAMS, self.switch.limits.streams),
            (MAX_HEADER_LIST_SIZE, _LIST_BYTES),
        )
        self.send(self.greeting(pairs))
        self.switch.flush()

    def eof_received(self) -> bool | None:
        """Close: a client that sends no more gets no answers either."""
        return None

    def data_received(self, data: bytes) -> None:
        """Look for the preface, then for frames."""
        if not self._greeted:
            self._preface += data
            if not PREFACE.startswith(self._preface[: len(PREFACE)]):
                self.die(Code.PROTOCOL_ERROR, "this is no HTTP/2")
            if self.closed or len(self._preface) < len(PREFACE):
                self.switch.flush()
                return
            data, self._preface, self._greeted = self._preface[len(PREFACE) :], b"", True
        super().data_received(data)

    def drain(self) -> None:
        """Take no new calls, end what runs, then close."""
        if self._draining or self.closed:
            return
        self._draining = True
        self.send(goaway(MAX_STREAM, Code.NO_ERROR, "this server stops"))
        self.switch.flush()
        loop = asyncio.get_running_loop()
        self._farewell = loop.call_later(_SECOND_WORD_S, self._say_farewell)

    def _say_farewell(self) -> None:
        self._farewell = None
        self._said_farewell = True
        self.send(goaway(self.last, Code.NO_ERROR, "this server stops"))
        self.close_if_done()
        self.switch.flush()

    def close_if_done(self) -> None:
        """Close a connection that is being drained once nothing runs on it."""
        if self._draining and self._farewell is None and not self.streams:
            self.close()

    def end(self, why: str) -> None:
        """Give up all calls: their client is gone."""
        if self.closed:
            return
        self.closed = True
        if self._farewell:
            self._farewell.cancel()
        self.switch.clients.pop(self, None)
        for stream in streams_of(self):
            stream.abandon()

    def look(self, now_s: float) -> None:
        """Cut a client that does not begin, does nothing, or does not read."""
        limits = self.switch.limits
        if self.paused and now_s - self.paused_s > limits.stall_s:
            self.switch.counts.broke(client=True, why="the client does not read")
            if self.transport:
                self.transport.abort()
        elif not self._greeted and now_s - self.busy_s > limits.greeting_s:
            self.close()
        elif self.idle(now_s):
            self.drain()

    # ------------------------------------------------------------ frames

    def on_block(self, stream: int, block: bytes, *, ended: bool) -> None:
        """A call begins, or its client says that it has nothing more to send; raises Broken."""
        if self._stateful is not None:
            block = self._stateful.stateless(block)
        known = self.streams.get(stream)
        if known is not None:
            self._trailers(known, block, ended=ended)
            return
        if not stream & 1:
            raise Broken(Code.PROTOCOL_ERROR, "a stream of a client has an even number")
        if stream <= self.last:
            raise Broken(Code.STREAM_CLOSED, "a stream is used again")
        self.last, self.busy_s = stream, self.switch.read_s
        if len(self.streams) >= self.switch.limits.streams or self._said_farewell:
            self.send(reset(stream, Code.REFUSED_STREAM))
            return
        try:
            head = self.switch.service.requests.read(block)
        except TooLarge as error:
            made = self.streams[stream] = Stream(self, stream, _NO_HEAD, ended=ended)
            made.fail(Exhausted(f"{error}."))
        except Malformed:
            self.send(reset(stream, Code.PROTOCOL_ERROR))
        else:
            made = self.streams[stream] = Stream(self, stream, head, ended=ended)
            made.begin(self.switch.service.open(head, self.inbound))

    def take_whole(self, data: bytes, at: int) -> int:
        """Take calls that came whole; raises Broken."""
        return take_calls(self, data, at)

    def may_begin(self, stream: int, widened: int) -> bool:
        """Whether a call on this stream is as it should be, and is taken. With it comes that the
        client takes `widened` bytes more of the answer."""
        return (
            self.last < stream <= MAX_STREAM
            and stream & 1 == 1
            and self._stateful is None
            and not (self.closed or self._said_farewell)
            and len(self.streams) < self._most_streams
            and (not widened or widened + self.stream_window <= MAX_WINDOW)
        )

    def _trailers(self, stream: Stream, block: bytes, *, ended: bool) -> None:
        """Take the end of the request; what else stands there, gRPC does not have."""
        if stream.request.ended:
            raise Broken(Code.STREAM_CLOSED, "HEADERS after the end of a request")
        if not ended:
            raise Broken(Code.PROTOCOL_ERROR, "a request has two heads")
        self.switch.service.answers.read(block)  # it must be a block
        stream.on_request_data(b"", 0, ended=True)

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of a request; raises Broken."""
        self.charge(size)
        known = self.streams.get(stream)
        if known is not None:
            known.on_request_data(data, size, ended=ended)
        elif stream > self.last:
            raise Broken(Code.PROTOCOL_ERROR, "DATA on a stream that was not begun")

    def on_reset(self, stream: int, code: int) -> None:
        """The client gave a call up; raises Broken if it does little else."""
        if stream > self.last:
            raise Broken(Code.PROTOCOL_ERROR, "RST_STREAM on a stream that was not begun")
        self._resets += 1
        if self._resets > _SPARE_RESETS and self._resets * 4 > self.last:
            raise Broken(Code.ENHANCE_YOUR_CALM, "too many resets")
        if (known := self.streams.get(stream)) is not None:
            self.switch.counts.cancelled += 1
            known.abandon()

    def on_settings_taken(self) -> None:
        """From now on its blocks need no table."""
        self._stateful = None

    def on_goaway(self, last: int, code: int) -> None:
        """The client leaves; its calls end by themselves."""

    def stream_window_grew(self, stream: int, size: int) -> None:
        """The client takes more of an answer; raises Broken."""
        known = self.streams.get(stream)
        if known is not None:
            known.on_client_window(size)
        elif stream > self.last:
            raise Broken(Code.PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that was not begun")

    def windows_changed(self, change: int) -> None:
        """The client takes more or less of all answers."""
        for stream in streams_of(self):
            if stream.made_answer is None:  # it begins with the window as it is then
                continue
            if not stream.answer.widen(change):
                raise Broken(Code.FLOW_CONTROL_ERROR, "a window is above 2^31 - 1")
            stream.pump_answer()

    def resume(self, stream: Stream) -> None:
        """Let one answer go on."""
        stream.pump_answer(QUANTUM_BYTES)
