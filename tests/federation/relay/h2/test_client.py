"""What clients may say, and what becomes of those that break the rules: frames on real sockets."""

import struct

import pytest
from hpack import Encoder

from federation.relay.h2 import wire
from federation.relay.h2.blocks import Huffman, literal, walk
from federation.relay.h2.message import enveloped
from tests.federation.relay.h2.rig import (
    CALL,
    HEADERS,
    LIVE,
    block,
    call,
    message,
    rig,
)

DATA, SETTINGS, PING, CONTINUATION = wire.DATA, wire.SETTINGS, wire.PING, wire.CONTINUATION
END = wire.END_STREAM


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return wire.frame(kind, flags, stream, payload)


def head(*more: tuple[bytes, bytes], raw: bytes = b"", path: bytes | None = None) -> bytes:
    fields = block(*((path,) if path else ()), *()) if not more else block(path or INFER, *more)
    return frame(wire.HEADERS, wire.END_HEADERS, 1, fields + raw)


INFER = b"/inference.GRPCInferenceService/ModelInfer"
BODY = frame(DATA, END, 1, message())
BLOCK = block()
PIECES = message()

SERVED = {
    "a good call": CALL,
    "padding and priority": frame(
        wire.HEADERS, 0x2C, 1, b"\x05" + bytes(4) + b"\x10" + BLOCK + bytes(5)
    )
    + frame(DATA, 0x9, 1, b"\x09" + message() + bytes(9)),
    "a header block in three pieces": frame(wire.HEADERS, 0, 1, BLOCK[:10])
    + frame(CONTINUATION, 0, 1, BLOCK[10:60])
    + frame(CONTINUATION, 4, 1, BLOCK[60:])
    + BODY,
    "frames of one byte": HEADERS
    + b"".join(
        frame(DATA, int(i == len(PIECES) - 1), 1, PIECES[i : i + 1]) for i in range(len(PIECES))
    ),
    "empty frames between": HEADERS
    + frame(DATA, 0, 1) * 20
    + frame(DATA, 0, 1, message())
    + frame(DATA, END, 1),
    "an unknown frame and an unknown setting": frame(0x77, 0xFF, 5, b"zzz")
    + frame(SETTINGS, 0, 0, struct.pack(">HI", 0x99, 1))
    + CALL,
    "indexing into a table of size 0": head(raw=b"\x40\x03x-a\x01b") + BODY,
    "a size update to 0 in front": frame(wire.HEADERS, 4, 1, b"\x20" + BLOCK) + BODY,
    "a load header of its own": head((b"x-fed-load", b"0")) + BODY,
    "a method of our own": call(1, LIVE, enveloped(b"")),
    "request trailers": HEADERS
    + frame(DATA, 0, 1, message())
    + frame(wire.HEADERS, 5, 1, literal(b"x-end", b"1")),
}


@pytest.mark.parametrize("case", SERVED)
async def test_is_served(case: str) -> None:
    async with rig() as r:
        client = await r.client()
        client.write(SERVED[case])
        assert (await client.outcome()).status == 0, await client.outcome()
        sent = [h for place in r.places for peer in place.peers for h in peer.heads.values()]
        assert not any(b"x-fed" in h for h in sent)
        assert not any(b"x-fed-load" in f.payload for f in client.of(wire.HEADERS))
        await client.until(lambda: r.quiet)


async def test_one_byte_at_a_time() -> None:
    async with rig() as r:
        client = await r.silent_client()
        for byte in wire.PREFACE + frame(SETTINGS, 0, 0) + CALL:
            client.write(bytes((byte,)))
            await client.writer.drain()
        assert (await client.outcome()).status == 0


async def test_all_in_one_read() -> None:
    async with rig() as r:
        client = await r.silent_client()
        many = b"".join(call(i) for i in range(1, 41, 2))
        client.write(wire.PREFACE + frame(SETTINGS, 0, 0) + many)
        for stream in range(1, 41, 2):
            assert (await client.outcome(stream)).status == 0


STATUS = {
    "more metadata than is taken": (head((b"x", b"a" * 17_000)), 8),
    "an unknown method": (call(1, b"/a.b/C"), 12),
    "an empty name": (HEADERS + frame(DATA, END, 1, b"\0\0\0\0\0"), 3),
    "a message cut inside the name": (HEADERS + frame(DATA, END, 1, b"\0\0\0\0\x64\n\x20abc"), 3),
    "no message": (frame(wire.HEADERS, 5, 1, BLOCK), 3),
    "an unknown model": (HEADERS + frame(DATA, END, 1, message(b"nope")), 5),
    "a method of our own with a long body": (
        frame(wire.HEADERS, 4, 1, block(LIVE)) + frame(DATA, 0, 1, bytes(16_000)) * 5,
        8,
    ),
}


@pytest.mark.parametrize("case", STATUS)
async def test_gets_a_status(case: str) -> None:
    data, status = STATUS[case]
    async with rig() as r:
        client = await r.client()
        client.write(data)
        assert (await client.outcome()).status == status
        client.write(call(3))
        assert (await client.outcome(3)).status == 0  # the connection goes on


STREAM_ENDS = {
    "an upper-case name": (head((b"X-A", b"1")), 1),
    "a connection header": (head((b"connection", b"close")), 1),
    "te that is not trailers": (head((b"te", b"gzip")), 1),
    "CR LF in a value": (head((b"x", b"a\r\nb")), 1),
    "a pseudo-header after others": (head((b":path", b"/x")), 1),
    "an unknown pseudo-header": (
        frame(wire.HEADERS, 4, 1, literal(b":protocol", b"x") + BLOCK),
        1,
    ),
    "two content types": (head((b"content-type", b"application/grpc")), 1),
    "a timeout that is none": (head((b"grpc-timeout", b"5 S")), 1),
    "a stream window above 2^31 - 1": (HEADERS + wire.window_update(1, 0x7FFFFFFF), 3),
    "a stream window update of 0": (HEADERS + wire.window_update(1, 0), 1),
}


@pytest.mark.parametrize("case", STREAM_ENDS)
async def test_loses_one_stream(case: str) -> None:
    data, code = STREAM_ENDS[case]
    async with rig() as r:
        client = await r.client()
        client.write(data)
        assert (await client.outcome()).reset == code
        client.write(call(3))
        assert (await client.outcome(3)).status == 0


async def test_data_after_the_end_loses_one_stream() -> None:
    async with rig(modes=("silent", "silent")) as r:
        client = await r.client()
        client.write(CALL + frame(DATA, 0, 1, b"x"))
        assert (await client.outcome()).reset == 5


MANY_RESETS = b"".join(call(i) + wire.reset(i, 8) for i in range(1, 2001, 2))
CONNECTION_ENDS = {
    "a reference to the dynamic table": (head(raw=b"\xbe"), 9),
    "a name in the dynamic table": (head(raw=b"\x7e\x01a"), 9),
    "a table size of 4096": (frame(wire.HEADERS, 4, 1, b"\x3f\xe1\x1f" + BLOCK), 9),
    "a size update in the middle": (head(raw=b"\x20"), 9),
    "a block that ends early": (frame(wire.HEADERS, 4, 1, BLOCK[:-3]), 9),
    "a huge integer": (frame(wire.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff\x01"), 9),
    "a bad Huffman code": (head(raw=b"\0\x01x\x84\xff\xff\xff\xff"), 9),
    "DATA on stream 0": (frame(DATA, 0, 0, b"x"), 1),
    "DATA on an idle stream": (frame(DATA, 0, 7, b"x"), 1),
    "HEADERS on stream 0": (frame(wire.HEADERS, 4, 0, BLOCK), 1),
    "an even stream": (frame(wire.HEADERS, 4, 2, BLOCK), 1),
    "a stream used again": (CALL + call(3) + call(1), 5),
    "a frame above MAX_FRAME_SIZE": (wire.pack_head(((1 << 16) + 1) << 8, 0, 1), 6),
    "CONTINUATION alone": (frame(CONTINUATION, 4, 1), 1),
    "a frame inside a header block": (
        frame(wire.HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)),
        1,
    ),
    "CONTINUATION of another stream": (
        frame(wire.HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 4, 3),
        1,
    ),
    "many CONTINUATIONs": (frame(wire.HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1) * 100, 11),
    "a huge header block": (
        frame(wire.HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, bytes(16_000)) * 4,
        11,
    ),
    "padding longer than its frame": (HEADERS + frame(DATA, 8, 1, b"\x05ab"), 1),
    "priority on itself": (frame(wire.HEADERS, 0x24, 1, b"\0\0\0\x01\x10" + BLOCK), 1),
    "a window update of 0": (wire.window_update(0, 0), 1),
    "a window above 2^31 - 1": (wire.window_update(0, 0x7FFFFFFF), 3),
    "WINDOW_UPDATE on an idle stream": (wire.window_update(9, 1), 1),
    "WINDOW_UPDATE of 5 bytes": (frame(wire.WINDOW_UPDATE, 0, 0, bytes(5)), 6),
    "PING of 7 bytes": (frame(PING, 0, 0, bytes(7)), 6),
    "PING on a stream": (frame(PING, 0, 1, bytes(8)), 1),
    "many PINGs": (frame(PING, 0, 0, bytes(8)) * 1200, 11),
    "many SETTINGS": (frame(SETTINGS, 0, 0) * 1200, 11),
    "many empty DATA": (HEADERS + frame(DATA, 0, 1) * 11_000, 11),
    "many PRIORITYs": (frame(wire.PRIORITY, 0, 1, bytes(5)) * 11_000, 11),
    "rapid reset": (MANY_RESETS, 11),
    "SETTINGS of 5 bytes": (frame(SETTINGS, 0, 0, bytes(5)), 6),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), 1),
    "SETTINGS ACK with a payload": (frame(SETTINGS, 1, 0, bytes(6)), 6),
    "a window of 2^31": (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)), 3),
    "a frame size of 100": (frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 100)), 1),
    "ENABLE_PUSH of 2": (frame(SETTINGS, 0, 0, struct.pack(">HI", 2, 2)), 1),
    "PUSH_PROMISE": (frame(wire.PUSH_PROMISE, 4, 1, bytes(4)), 1),
    "RST_STREAM on an idle stream": (wire.reset(9, 0), 1),
    "RST_STREAM of 3 bytes": (frame(wire.RST_STREAM, 0, 1, bytes(3)), 6),
    "GOAWAY on a stream": (frame(wire.GOAWAY, 0, 1, bytes(8)), 1),
    "GOAWAY of 7 bytes": (frame(wire.GOAWAY, 0, 0, bytes(7)), 6),
    "PRIORITY of 4 bytes": (frame(wire.PRIORITY, 0, 1, bytes(4)), 6),
    "HEADERS after the end": (CALL + frame(wire.HEADERS, 5, 1, BLOCK), 5),
    "two heads": (HEADERS + frame(wire.HEADERS, 4, 1, BLOCK), 1),
}


@pytest.mark.parametrize("case", CONNECTION_ENDS)
async def test_loses_the_connection(case: str) -> None:
    data, code = CONNECTION_ENDS[case]
    async with rig(modes=("silent", "silent")) as r:
        client = await r.client()
        client.write(data)
        await client.until(lambda: bool(client.of(wire.GOAWAY)))
        outcome = await client.outcome(99)
        assert outcome.goaway == code, outcome
        await client.until(lambda: client.eof)
        await client.until(lambda: r.quiet)
        other = await r.client()
        r.places[0].mode = r.places[1].mode = "ok"
        for peer in (*r.places[0].peers, *r.places[1].peers):
            peer.mode = "ok"
        other.write(CALL)
        assert (await other.outcome()).status == 0  # others do not notice


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", wire.PREFACE + frame(PING, 0, 0, bytes(8))]
)
async def test_what_does_not_greet_is_cut(data: bytes) -> None:
    async with rig() as r:
        client = await r.silent_client()
        client.write(data)
        await client.until(lambda: client.eof)
        assert (await client.outcome(99)).goaway == 1


async def test_before_the_ack_the_dynamic_table_may_be_used() -> None:
    async with rig() as r:
        client = await r.client(acknowledges=False)
        client.frames = [f for f in client.frames if f.kind != SETTINGS]
        encoder = Encoder()
        fields = [(f.name.decode(), f.value.decode()) for f in walk(BLOCK, Huffman())]
        fields.append(("x-secret", "one"))
        blocks = [encoder.encode(fields) for _ in range(2)]
        assert len(blocks[1]) < len(blocks[0])  # it leans on the table
        for stream, said in zip((1, 3), blocks, strict=True):
            client.write(frame(wire.HEADERS, 4, stream, said) + frame(DATA, 1, stream, message()))
        assert (await client.outcome(3)).status == 0
        heads = [h for place in r.places for peer in place.peers for h in peer.heads.values()]
        assert [b"x-secret" in {f.name for f in walk(h, Huffman())} for h in heads] == [True, True]


async def test_a_drained_client_may_end_what_runs() -> None:
    async with rig(modes=("silent", "silent")) as r:
        client = await r.client()
        client.write(CALL)
        await client.until(lambda: bool(r.places[0].bodies))
        r.switch.drain()
        await client.until(lambda: len(client.of(wire.GOAWAY)) == 2)
        first, last = (f.number for f in client.of(wire.GOAWAY))
        assert (first, last) == (wire.MAX_STREAM, 1)
        client.write(call(3))
        await client.until(lambda: bool(client.of(wire.RST_STREAM, 3)))
        assert client.of(wire.RST_STREAM, 3)[0].number == 7
        peer = r.places[0].peers[0]
        peer.mode = "ok"
        peer.answer(1)
        await client.until(lambda: client.eof)
        assert any(f.flags & END for f in client.of(wire.HEADERS, 1))


async def test_more_streams_than_allowed_are_refused() -> None:
    async with rig(modes=("silent",)) as r:
        client = await r.client()
        client.write(b"".join(call(i) for i in range(1, 2 * r.switch.limits.streams + 2, 2)))
        assert (await client.outcome(2 * r.switch.limits.streams + 1)).reset == 7
