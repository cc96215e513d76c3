"""Raw frames on real sockets: clients, and upstreams that misbehave."""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from federation.relay.failures import ConnectFailed
from federation.relay.h2 import wire
from federation.relay.h2.blocks import Huffman, literal, walk
from federation.relay.h2.heads import ANSWER
from federation.relay.h2.message import enveloped, name_fields, text_field
from federation.relay.transport import ProtocolFactory

INFER = b"/inference.GRPCInferenceService/ModelInfer"
STREAM = b"/inference.GRPCInferenceService/ModelStreamInfer"
LIVE = b"/inference.GRPCInferenceService/ServerLive"
ATTEMPTS = 3


def block(path: bytes = INFER, *more: tuple[bytes, bytes]) -> bytes:
    """A request's header block, stateless."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"a"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    )
    return b"".join(literal(*one) for one in fields)


def message(name: bytes = b"m", size: int = 100) -> bytes:
    """A message that names a model, in its envelope."""
    return enveloped(name_fields(name.decode(), "1") + text_field(7, bytes(size)))


HEADERS = wire.frame(wire.HEADERS, wire.END_HEADERS, 1, block())
CALL = HEADERS + wire.frame(wire.DATA, wire.END_STREAM, 1, message())


def call(stream: int, path: bytes = INFER, body: bytes | None = None) -> bytes:
    """The frames of one call."""
    return wire.frame(wire.HEADERS, wire.END_HEADERS, stream, block(path)) + wire.frame(
        wire.DATA, wire.END_STREAM, stream, message() if body is None else body
    )


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def number(self) -> int:
        return int(wire.read_u32(self.payload)[0])


class Peer:
    """One end that speaks raw frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames: list[Frame] = []
        self.eof = False
        self.acknowledges = True
        self.news = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                head, flags, stream = wire.read_head(await self.reader.readexactly(9))
                payload = await self.reader.readexactly(head >> 8)
                frame = Frame(head & 255, flags, stream & 0x7FFFFFFF, payload)
                self.frames.append(frame)
                if frame.kind == wire.SETTINGS and not flags & wire.ACK and self.acknowledges:
                    self.write(wire.frame(wire.SETTINGS, wire.ACK, 0))
                self.on(frame)
                self.news.set()
        except (asyncio.IncompleteReadError, OSError):
            self.eof = True
            self.news.set()

    def on(self, frame: Frame) -> None:
        """Act on a frame."""

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.writer.write(data)

    async def until(self, check: Callable[[], bool], within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while not check():
                self.news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await self.news.wait()

    def of(self, kind: int, stream: int | None = None) -> list[Frame]:
        return [f for f in self.frames if f.kind == kind and stream in (None, f.stream)]

    def body(self, stream: int) -> bytes:
        return b"".join(f.payload for f in self.of(wire.DATA, stream))

    def close(self) -> None:
        self.task.cancel()
        self.writer.close()

    async def closed(self) -> None:
        self.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self.task
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@dataclass
class Outcome:
    """What a client saw of one stream."""

    status: int | None = None
    message: str = ""
    reset: int | None = None
    goaway: int | None = None
    why: str = ""

    def __str__(self) -> str:
        told = [] if self.status is None else [f"status {self.status} {self.message}".strip()]
        told += [] if self.reset is None else [f"RST {self.reset}"]
        told += [] if self.goaway is None else [f"GOAWAY {self.goaway} {self.why}"]
        return "; ".join(told) or "nothing"


class RawClient(Peer):
    """A client."""

    def over(self, stream: int) -> bool:
        ended = [f for f in self.of(wire.HEADERS, stream) if f.flags & wire.END_STREAM]
        return bool(ended or self.of(wire.RST_STREAM, stream) or self.of(wire.GOAWAY)) or self.eof

    async def outcome(self, stream: int = 1, within_s: float = 10.0) -> Outcome:
        await self.until(lambda: self.over(stream), within_s)
        found = Outcome()
        for frame in self.frames:
            if frame.kind == wire.HEADERS and frame.stream == stream and frame.flags & 1:
                fields = {f.name: f.value for f in walk(frame.payload, Huffman())}
                found.status = int(fields.get(b"grpc-status", b"-1"))
                found.message = fields.get(b"grpc-message", b"").decode()
            elif frame.kind == wire.RST_STREAM and frame.stream == stream:
                found.reset = frame.number
            elif frame.kind == wire.GOAWAY:
                found.goaway = int(wire.read_u32(frame.payload, 4)[0])
                found.why = frame.payload[8:].decode()
        return found


OK = literal(b"grpc-status", b"0")
HALF = b"\0\0\0\0\4\0"
BIG_BYTES = 4 << 20


class Upstream(Peer):
    """A server that answers after END_STREAM, as its mode says."""

    mode = "ok"
    grants = True
    settings = b""
    sent = 0

    def __init__(self, *args: asyncio.StreamReader | asyncio.StreamWriter) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.heads: dict[int, bytes] = {}
        self.bodies: dict[int, bytes] = {}
        self.sending: set[asyncio.Task[None]] = set()

    def on(self, frame: Frame) -> None:
        stream = frame.stream
        if frame.kind == wire.HEADERS:
            self.heads[stream] = frame.payload
            self.bodies[stream] = b""
        elif frame.kind == wire.DATA:
            self.bodies[stream] += frame.payload
            if self.grants and frame.payload:
                size = len(frame.payload)
                self.write(wire.window_update(0, size) + wire.window_update(stream, size))
        else:
            return
        if frame.flags & wire.END_STREAM:
            self.answer(stream)

    def head(self, stream: int, block: bytes, *, last: bool = False) -> bytes:
        flags = wire.END_HEADERS | (wire.END_STREAM if last else 0)
        return wire.frame(wire.HEADERS, flags, stream, block)

    def data(self, stream: int, data: bytes, *, last: bool = False) -> bytes:
        return wire.frame(wire.DATA, int(last), stream, data)

    def answer(self, stream: int) -> None:
        head, data = self.head(stream, ANSWER), struct.pack(">I", len(self.bodies[stream]))
        trailers = self.head(stream, literal(b"x-fed-load", b"7") + OK, last=True)
        fixed = {
            "ok": head + self.data(stream, b"\0\0\0\0\4" + data) + trailers,
            "refuse": wire.reset(stream, 7),
            "goaway": wire.goaway(max(0, stream - 2), 0),
            "unavailable": self.head(
                stream,
                ANSWER + literal(b"x-fed-refused", b"no") + literal(b"grpc-status", b"14"),
                last=True,
            ),
            "half-rst": head + self.data(stream, HALF) + wire.reset(stream, 2),
            "half": head + self.data(stream, HALF),
            "dynamic": self.head(stream, b"\xbe", last=True),
            "http503": self.head(stream, literal(b":status", b"503"), last=True),
            "no-head": self.data(stream, b"xxxxx", last=True),
            "no-trailers": head + self.data(stream, b"\0\0\0\0\0", last=True),
            "overrun": head + self.data(stream, bytes(60_000)) * 19,
            "continued": wire.frame(wire.HEADERS, 0, stream, ANSWER[:7])
            + wire.frame(wire.CONTINUATION, 0, stream, ANSWER[7:11])
            + wire.frame(wire.CONTINUATION, 4, stream, ANSWER[11:])
            + self.head(stream, OK, last=True),
            "close": b"",
            "silent": b"",
            "big": head,
        }
        self.write(fixed[self.mode])
        if self.mode in ("close", "half"):
            self.writer.close()
        if self.mode == "big":
            task = asyncio.get_running_loop().create_task(self._big(stream))
            self.sending.add(task)

    def granted(self, stream: int, base: int) -> int:
        return base + sum(f.number for f in self.of(wire.WINDOW_UPDATE, stream))

    async def _big(self, stream: int) -> None:
        """Send a lot, as fast as the windows allow."""
        used = 0
        while used < BIG_BYTES and not self.eof:
            room = min(self.granted(0, 65_535), self.granted(stream, 1 << 20)) - used
            size = min(16_384, BIG_BYTES - used, room)
            if size <= 0:
                await asyncio.sleep(0.002)
                continue
            self.write(self.data(stream, bytes(size)))
            used += size
            self.sent = used
            await asyncio.sleep(0)
        self.write(self.head(stream, OK, last=True))

    async def closed(self) -> None:
        for task in self.sending:
            task.cancel()
        await asyncio.gather(*self.sending, return_exceptions=True)
        await super().closed()


class Place:
    """A listening port with upstreams."""

    def __init__(self) -> None:
        self.mode, self.grants, self.settings = "ok", True, b""
        self.peers: list[Upstream] = []
        self.server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await reader.readexactly(24) == wire.PREFACE
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            return
        peer = Upstream(reader, writer)
        peer.mode, peer.grants = self.mode, self.grants
        peer.write(wire.frame(wire.SETTINGS, 0, 0, self.settings))
        self.peers.append(peer)

    @property
    def bodies(self) -> list[bytes]:
        return [body for peer in self.peers for body in peer.bodies.values()]

    def frames(self, kind: int) -> list[Frame]:
        return [f for peer in self.peers for f in peer.of(kind)]

    async def stop(self) -> None:
        if self.server:
            self.server.close()
            for peer in self.peers:
                await peer.closed()
            await self.server.wait_closed()


class PlainDialler:
    """Connections over TCP."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.good = True
        self.made: list[asyncio.Transport] = []
        self.bad: list[asyncio.Transport] = []

    async def connect(
        self, protocol_factory: ProtocolFactory, *, connect_s: float
    ) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_s):
                made, _ = await loop.create_connection(protocol_factory, "127.0.0.1", self.port)
        except OSError as error:
            raise ConnectFailed("cannot connect") from error
        self.made.append(made)
        return made

    def usable(self, transport: asyncio.Transport) -> bool:
        return self.good and transport not in self.bad and not transport.is_closing()
