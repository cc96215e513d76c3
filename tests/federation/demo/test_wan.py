import asyncio
import contextlib
import random
import statistics
from collections.abc import AsyncIterator

import pytest

from federation.demo.wan import Delay, Lane


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def _lane(rtt_ms: float) -> AsyncIterator[Lane]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[:2]
    lane = Lane("test", target, Delay(rtt_ms), random.Random(1))
    await lane.start()
    try:
        yield lane
    finally:
        await lane.cut()
        server.close()
        await asyncio.sleep(0.01)


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"x"
) -> float:
    started = asyncio.get_running_loop().time()
    writer.write(data)
    async with asyncio.timeout(10):
        assert await reader.readexactly(len(data)) == data
    return asyncio.get_running_loop().time() - started


async def test_an_answer_takes_one_round_trip_and_a_connection_one_more() -> None:
    async with _lane(80) as lane:
        reader, writer = await asyncio.open_connection("127.0.0.1", lane.port)
        first = await _ask(reader, writer)
        later = [await _ask(reader, writer) for _ in range(5)]
        writer.close()
    assert 0.158 <= first < 0.25
    assert min(later) >= 0.079
    assert statistics.median(later) < 0.1


async def test_pieces_stay_in_order_and_a_big_body_arrives_whole() -> None:
    async with _lane(20) as lane:
        reader, writer = await asyncio.open_connection("127.0.0.1", lane.port)
        body = random.Random(2).randbytes(5 << 20)  # more than may be on the way at once
        await _ask(reader, writer, body)
        writer.close()


async def test_a_cut_resets_and_refuses_and_healing_keeps_the_port() -> None:
    async with _lane(10) as lane:
        port = lane.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await _ask(reader, writer)
        await lane.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert repr(lane) == "Lane(test, cut, 10 ms, 0 open)"
        await lane.start()
        assert lane.port == port
        reader, again = await asyncio.open_connection("127.0.0.1", port)
        assert await _ask(reader, again) < 1
        again.close()
        writer.close()


async def test_a_refusal_behind_the_lane_reaches_the_caller_as_a_reset() -> None:
    async with _lane(30) as lane:
        lane.target = ("127.0.0.1", 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", lane.port)
        started = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert 0.02 <= asyncio.get_running_loop().time() - started < 5
        writer.close()


async def test_a_closed_connection_is_forgotten_after_its_last_bytes_arrived() -> None:
    async with _lane(20) as lane:
        reader, writer = await asyncio.open_connection("127.0.0.1", lane.port)
        await _ask(reader, writer)
        assert len(lane.connections) == 1
        writer.close()
        async with asyncio.timeout(5):
            while lane.connections:
                await asyncio.sleep(0.01)
