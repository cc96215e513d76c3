"""The proxy does what it is told: else the tests that use it show nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.fault_proxy import BLACK_HOLE, PASS, RESET, Fault, FaultProxy, fault_proxy


@asynccontextmanager
async def echo_behind() -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server that says what it hears."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server, fault_proxy(*server.sockets[0].getsockname()) as proxy:
        yield proxy


@asynccontextmanager
async def line_to(
    proxy: FaultProxy,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_bytes_pass_and_the_end_too() -> None:
    async with echo_behind() as proxy, line_to(proxy) as (reader, writer):
        writer.write(b"x" * 5000)
        assert await reader.readexactly(5000) == b"x" * 5000
        writer.write_eof()
        assert await reader.read() == b""
        assert (proxy.taken, proxy.told_bytes) == (1, 5000)


async def test_a_reset_ends_what_is_open_and_refuses_what_comes() -> None:
    async with echo_behind() as proxy:
        async with line_to(proxy) as (reader, writer):
            writer.write(b"hi")
            assert await reader.readexactly(2) == b"hi"
            await proxy.become(RESET)
            with pytest.raises(ConnectionResetError):
                await reader.read()
        async with line_to(proxy) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        await proxy.become(PASS)
        async with line_to(proxy) as (reader, writer):
            writer.write(b"hi")
            assert await reader.readexactly(2) == b"hi"


async def test_a_black_hole_is_silent_and_what_it_took_arrives_once_it_is_healed() -> None:
    async with echo_behind() as proxy, line_to(proxy) as (reader, writer):
        await proxy.become(BLACK_HOLE)
        async with line_to(proxy) as (new, _):
            writer.write(b"late")
            for each in (reader, new):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await each.read(1)
            await proxy.become(PASS)
            assert await reader.readexactly(4) == b"late"


@pytest.mark.parametrize("politely", [True, False])
async def test_an_answer_is_cut_after_so_many_bytes(politely: bool) -> None:
    async with echo_behind() as proxy:
        await proxy.become(Fault(cut_after=3, politely=politely))
        async with line_to(proxy) as (reader, writer):
            writer.write(b"hello")
            assert await reader.readexactly(3) == b"hel"
            if politely:
                assert await reader.read() == b""
            else:
                with pytest.raises(ConnectionResetError):
                    await reader.read()


async def test_a_slow_way_is_slow() -> None:
    async with echo_behind() as proxy, line_to(proxy) as (reader, writer):
        for fault, least_s in ((Fault(delay_s=0.05), 0.1), (Fault(bytes_per_s=1000), 0.05)):
            await proxy.become(fault)
            began_s = time.monotonic()
            writer.write(b"x" * 50)
            await reader.readexactly(50)
            assert time.monotonic() - began_s >= least_s * 0.9
