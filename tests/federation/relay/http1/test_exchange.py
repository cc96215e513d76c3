import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from federation.relay.failures import BrokenMidway, ConnectFailed, ForwardError, SentNoAnswer
from federation.relay.http1.client import ClientConnection
from federation.relay.http1.exchange import Upstream
from tests.fakes.requests import QuietTransport

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\n\r\n"


class Rig:
    """A connection whose far end is the test."""

    def __init__(self) -> None:
        self.transport = QuietTransport()
        self.connection = ClientConnection()
        self.connection.connection_made(self.transport)
        self.ended: list[Upstream] = []
        self.upstream = self.exchange()

    def exchange(self) -> Upstream:
        return Upstream(
            self.connection, lambda one, _: self.ended.append(one), first_byte_s=5, idle_s=5
        )

    def said(self, data: bytes) -> None:
        self.connection.data_received(data)


async def test_one_exchange_after_the_other_on_one_connection() -> None:
    rig = Rig()
    for body in (b"first", b"second"):
        upstream = rig.exchange()
        upstream.send(HEAD, b"x")
        rig.said(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await upstream.answered(1)
        assert (upstream.status, upstream.whole) == (200, True)
        assert await upstream.read(100) == body
        assert await upstream.piece() == b""
        upstream.close()
        upstream.close()
        assert not rig.connection.should_close
    assert len(rig.ended) == 2
    assert rig.transport.written == (HEAD + b"x") * 2


@pytest.mark.parametrize("cut", [1, 7, 20, 60, 100])
async def test_an_answer_may_come_in_any_pieces_after_interim_ones(cut: int) -> None:
    rig = Rig()
    rig.upstream.send(HEAD, b"")
    raw = (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    for at in range(0, len(raw), cut):
        rig.said(raw[at : at + cut])
    await rig.upstream.answered(1)
    assert await rig.upstream.read(10) == b"abc"
    rig.upstream.close()
    assert not rig.connection.should_close


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"SSH-2.0\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"b" * 70_000,
    ],
)
async def test_what_is_no_answer_breaks_the_connection(raw: bytes) -> None:
    rig = Rig()
    rig.upstream.send(HEAD, b"")
    rig.said(raw)
    with pytest.raises(SentNoAnswer, match="not understood"):
        await rig.upstream.answered(1)
    assert rig.transport.closed


async def test_a_bad_chunk_is_never_taken_for_the_end() -> None:
    rig = Rig()
    rig.upstream.send(HEAD, b"")
    rig.said(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n")
    await rig.upstream.answered(1)
    with pytest.raises(BrokenMidway):
        await rig.upstream.read(100)
    assert rig.transport.closed


@pytest.mark.parametrize("more", [b"x", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_what_follows_an_answer_ends_the_connection(more: bytes) -> None:
    rig = Rig()
    rig.upstream.send(HEAD, b"")
    rig.said(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" + more)
    await rig.upstream.answered(1)
    assert await rig.upstream.read(10) == b"hi"
    rig.upstream.close()
    assert rig.connection.should_close
    idle = Rig()
    idle.connection.exchange = None
    idle.said(b"unasked")
    assert idle.transport.closed


async def test_the_last_head_is_not_parsed_twice() -> None:
    rig = Rig()
    raw = b"HTTP/1.1 200 OK\r\nX-Model: 1\r\nContent-Length: 0\r\n\r\n"
    seen = []
    for _ in range(2):
        upstream = rig.exchange()
        upstream.send(HEAD, b"")
        rig.said(raw)
        upstream.passed_headers()["X-Model"] = "changed"
        seen.append(upstream.passed_headers())
        upstream.close()
    assert seen[0] == seen[1]
    assert seen[1]["x-model"] == "1"


async def test_a_streamed_body_waits_for_the_far_end_and_its_error_comes_out() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"
        raise KeyError("source")

    rig = Rig()
    rig.connection.pause_writing()
    rig.upstream.send_pieces(HEAD, pieces(), chunked=True)
    await asyncio.sleep(0.01)
    assert rig.transport.written == HEAD + b"3\r\nabc\r\n"
    rig.connection.resume_writing()
    with pytest.raises(KeyError, match="source"):
        await rig.upstream.answered(5)
    rig.upstream.close()
    assert rig.transport.closed


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, SentNoAnswer),
        (ConnectionResetError("reset"), SentNoAnswer),
        (OSError("[SSL: TLSV1_ALERT_UNKNOWN_CA] x"), ConnectFailed),
    ],
)
async def test_how_it_was_lost_tells_whether_it_may_have_run(error: Any, kind: type) -> None:
    rig = Rig()
    rig.upstream.send(HEAD, b"")
    rig.connection.connection_lost(error)
    with pytest.raises(ForwardError) as caught:
        await rig.upstream.answered(1)
    assert type(caught.value) is kind


async def test_a_body_in_pieces_is_sent_in_order_without_being_put_together() -> None:
    for size, written in ((10, 1), (40_000, 3)):
        rig = Rig()
        lines: list[tuple[bytes, ...]] = []
        rig.transport.writelines = lines.append  # type: ignore[method-assign,assignment]
        pieces = b"a" * size, b"b" * size
        rig.upstream.send(HEAD, *pieces)
        if written == 1:
            assert (rig.transport.written, lines) == (HEAD + b"".join(pieces), [])
        else:
            assert lines == [(HEAD, *pieces)]
