import asyncio

import pytest

from federation.relay.http1.heads import UNTIL_CLOSE, BadMessage
from federation.relay.http1.inflow import HELD_BYTES, Inflow
from tests.fakes.requests import QuietTransport


def inflow(length: int) -> tuple[Inflow, QuietTransport]:
    transport = QuietTransport()
    return Inflow(transport, asyncio.get_running_loop(), length), transport


async def test_a_body_ends_where_its_length_says() -> None:
    body, _ = inflow(5)
    assert body.feed(b"abc") == 3
    assert not body.ended
    assert body.feed(b"defg") == 2
    assert (body.ended, body.take(), body.at_end) == (True, b"abcde", True)
    assert inflow(0)[0].ended


async def test_a_chunked_body_ends_with_its_last_chunk() -> None:
    body, _ = inflow(UNTIL_CLOSE)
    body.expect_chunks()
    assert not body.closes
    assert body.feed(b"3\r\nabc\r\n") == 8
    assert body.feed(b"0\r\n\r\nx") == 5
    assert body.take() == b"abc"
    other, _ = inflow(UNTIL_CLOSE)
    other.expect_chunks()
    assert not other.finish()
    with pytest.raises(BadMessage):
        other.feed(b"zz\r\n")


async def test_a_body_without_framing_ends_with_the_connection() -> None:
    body, _ = inflow(UNTIL_CLOSE)
    assert body.closes
    body.feed(b"abc")
    assert body.finish()
    assert (body.ended, body.take()) == (True, b"abc")


async def test_a_reader_that_falls_behind_stops_the_far_end() -> None:
    body, transport = inflow(HELD_BYTES * 4)
    body.feed(b"x" * HELD_BYTES)
    assert transport.reading
    body.feed(b"x")
    assert not transport.reading
    assert len(body.take()) == HELD_BYTES + 1
    assert transport.reading
    body.feed(b"x" * HELD_BYTES * 2)
    body.drop()
    assert transport.reading
    body.feed(b"x" * (HELD_BYTES - 1))
    assert (body.ended, body.take()) == (True, b"")


async def test_who_waits_is_woken_by_pieces_and_by_errors() -> None:
    body, _ = inflow(10)
    loop = asyncio.get_running_loop()

    async def wait() -> bytes:
        while not (found := body.take()):
            await body.pause()
        return found

    task = loop.create_task(wait())
    await asyncio.sleep(0)
    assert body.awaited
    body.feed(b"abc")
    body.wake()
    assert await task == b"abc"
    task = loop.create_task(wait())
    await asyncio.sleep(0)
    body.fail(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError):
        await task
    assert "received=3" in repr(body)
