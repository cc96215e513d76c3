"""What is fuzzed of HTTP/2 and gRPC: frames, header blocks, messages; against other readers.

Input: bytes. Output: nothing, a FederationError, or an AssertionError where two readers disagree in
a way that would let a request mean two things.
"""

import contextlib

from google.protobuf.message import DecodeError
from hpack import Decoder, HPACKError
from tritonclient.grpc import service_pb2 as pb

from federation.relay.h2 import wire
from federation.relay.h2.blocks import Huffman, literal, walk
from federation.relay.h2.heads import RequestReader
from federation.relay.h2.message import enveloped, name_fields, peek
from federation.relay.h2.rewriting import AppendingToRequests
from federation.relay.h2.splitter import Splitter
from federation.relay.h2.wire import Broken, Malformed

_OURS = name_fields("ours", "7")
_HEAD = b"".join(
    literal(*field)
    for field in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
        (b"content-type", b"application/grpc"),
    )
)
FRAMES = (
    wire.settings(((3, 100),)) + wire.frame(1, 4, 1, _HEAD) + wire.frame(0, 1, 1, b"\0\0\0\0\0"),
    wire.settings(()) + wire.frame(1, 0x2C, 1, b"\2\0\0\0\0\0" + _HEAD + b"\0\0"),
    wire.settings(()) + wire.window_update(0, 9) + wire.reset(1, 8) + wire.goaway(0, 0, "x"),
)
BLOCKS = (_HEAD, b"\x20\x83\x86" + _HEAD, b"\x40\x03x-a\x01b", b"\x0f\x2f\x82\x0c\x85")
MESSAGES = (
    enveloped(pb.ModelInferRequest(model_name="m", id="1").SerializeToString()),
    enveloped(b"\x0a\x01m\x1a\x01i\x0a\x07private\x3a\x10"),
    enveloped(b"\x8a\x00\x01m\x4b"),
)


class _Quiet:
    """A sink that only stops at the second of two frames that would be told differently."""

    closed = False

    def __init__(self) -> None:
        self.said: list[object] = []

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        self.said += [(stream, byte) for byte in data] + ([("end", stream)] if ended else [])

    def on_block(self, stream: int, block: bytes, *, ended: bool) -> None:
        self.said.append((stream, block, ended))

    def on_reset(self, stream: int, code: int) -> None:
        self.said.append(("reset", stream, code))

    def on_window(self, stream: int, size: int) -> None:
        self.said.append(("window", stream, size))

    def on_settings(self, pairs: list[tuple[int, int]]) -> None:
        self.said.append(("settings", tuple(pairs)))

    def on_settings_taken(self) -> None:
        self.said.append("taken")

    def on_ping(self, payload: bytes) -> None:
        self.said.append(("ping", payload))

    def on_pong(self) -> None:
        pass

    def take_whole(self, data: bytes, at: int) -> int:
        return at  # nothing: each frame is read one by one

    def on_goaway(self, last: int, code: int) -> None:
        self.said.append(("goaway", last, code))


def frames(data: bytes) -> None:
    """Frames say the same whole and in pieces, as long as they keep the rules."""
    step = data[0] % 50 + 1 if data else 1
    heard = []
    for pieces in ([data[1:]], [data[i : i + step] for i in range(1, len(data), step)]):
        quiet = _Quiet()
        splitter = Splitter(quiet, 1 << 14)
        broken = ""
        try:
            for piece in pieces:
                splitter.feed(piece)
        except Broken as error:
            broken = error.why
        heard.append((quiet.said, broken))
    (whole, why), (parts, why_in_parts) = heard
    assert why == why_in_parts
    assert why or whole == parts


def header_blocks(data: bytes) -> None:
    """What is let through means the same to another decoder, whatever is in its table."""
    try:
        fields = [(f.name, f.value) for f in walk(data, Huffman())]
    except Broken:
        return
    decoder = Decoder(max_header_list_size=1 << 24)
    with contextlib.suppress(HPACKError):
        decoder.decode(BLOCKS[2], raw=True)
        assert fields == [(bytes(h[0]), bytes(h[1])) for h in decoder.decode(data, raw=True)]
    reader = RequestReader(passes=(b"te",), notes=(b"authorization",), prefixes=(b"grpc-",))
    with contextlib.suppress(Malformed):
        passed = walk(reader.read(data).block, Huffman())
        assert all(
            f.name[:1] == b":" or f.name in (b"te",) or f.name[:5] == b"grpc-" for f in passed
        )


def grpc_messages(data: bytes) -> None:
    """Whatever a message says: if the engine would run it, it runs what was appended."""
    step = data[0] % 50 + 1 if data else 1
    rewriter = AppendingToRequests(_OURS, encoding=b"gzip")
    out = b"".join(rewriter.feed(data[i : i + step]) for i in range(1, len(data), step))
    rewriter.finish()
    while out:
        assert out[0] == 0
        size = int.from_bytes(out[1:5], "big")
        message, out = out[5 : 5 + size], out[5 + size :]
        assert len(message) == size
        peek(message[:4096], whole=size <= 4096)
        with contextlib.suppress(DecodeError):
            read = pb.ModelInferRequest.FromString(message)
            assert (read.model_name, read.model_version) == ("ours", "7")
