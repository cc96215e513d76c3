"""What one client can make a router spend: memory, time, the engine's attention."""

import asyncio
import contextlib
import gzip
import json
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from federation.relay.server import BodyLimits
from router.policy import table as tables
from router.request.call import ProxyLimits
from tests.hostile.corpus.payload import CHAT, INFER, TAG
from tests.hostile.origin import recording
from tests.hostile.rig import ROUTES as TENSOR_ROUTES
from tests.hostile.shoot import dialler, exchange
from tests.hostile.test_corpus import ROUTES
from tests.router.fakes import RouterUnderTest, make_snapshot, router_for

MB = 1 << 20


@pytest.fixture(autouse=True)
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if soft < 4096 else (soft, hard))


@asynccontextmanager
async def router_before(
    url: str, limits: ProxyLimits | None = None
) -> AsyncIterator[tuple[RouterUnderTest, int]]:
    async with router_for({"eu-1": url}, limits=limits) as router:
        router.state.allow_anonymous = True
        routes = {route.name: route for route in (*TENSOR_ROUTES, *ROUTES)}.values()
        router.state.swap(tables.build(make_snapshot({"eu-1": url}, routes=routes)))
        yield router, int(router.url.rpartition(":")[2])


def grown_by(before: int) -> int:
    return int(psutil.Process().memory_info().rss) - before


def rss() -> int:
    return int(psutil.Process().memory_info().rss)


def head(*headers: str, path: str = INFER) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: x", f"{TAG}: test", *headers, "", "")
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
async def test_a_thousand_announced_uploads_are_refused_before_their_bodies(
    expect: tuple[str, ...],
) -> None:
    async with recording() as origin, router_before(origin.url) as (_, port):
        before, dial = rss(), dialler(port)
        raw = head(f"Content-Length: {100 * MB}", *expect)
        gate = asyncio.Semaphore(200)

        async def upload() -> bytes:
            async with gate:
                return await exchange(dial, raw if expect else raw + b"x" * 1000)

        started = time.monotonic()
        answers = await asyncio.gather(*(upload() for _ in range(1000)))
        assert time.monotonic() - started < 20
        # A reset may overtake an answer to who still sends (RFC 9112, section 9.6); rarely.
        assert {answer[:12] for answer in answers} <= {b"HTTP/1.1 413", b""}
        assert answers.count(b"") <= 10
        assert not any(b"100 Continue" in answer for answer in answers)
        assert origin.asked == []
        assert grown_by(before) < 100 * MB


async def test_a_decompression_bomb_passes_unexploded_in_both_directions() -> None:
    bomb = gzip.compress(b"\0" * (300 * MB), compresslevel=9)
    assert len(bomb) < MB

    async def explosive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            received.append(await reader.readexactly(len(bomb)))
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
                % (len(bomb), bomb)
            )
            await writer.drain()
        writer.close()

    received: list[bytes] = []
    server = await asyncio.start_server(explosive, "127.0.0.1", 0, limit=4 * MB)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with router_before(url) as (_, port):
        before = rss()
        raw = head("Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb
        answer = await exchange(dialler(port), raw)
        assert received == [bomb]
        assert answer.endswith(bomb)
        chat = head("Content-Encoding: gzip", f"Content-Length: {len(bomb)}", path=CHAT) + bomb
        assert b"compressed" in await exchange(dialler(port), chat)
        assert len(received) == 1
        assert grown_by(before) < 50 * MB
    server.close()


@pytest.mark.parametrize("line", [b"X: a\r\n", b"X" * 4000, b" folded\r\n"])
async def test_a_head_without_end_is_cut_early(line: bytes) -> None:
    async with recording() as origin, router_before(origin.url) as (_, port):
        before, sent = rss(), 0
        reader, writer = await dialler(port)()
        writer.write(b"POST " if line.startswith(b"X" * 9) else head()[:-2])
        block = line * (65536 // len(line))
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                while not reader.at_eof() and sent < 64 * MB:
                    writer.write(block)
                    sent += len(block)
                    await writer.drain()
                    await asyncio.sleep(0)
        assert sent < 32 * MB  # what fits into the kernel's buffers before the reset comes back
        assert grown_by(before) < 50 * MB
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert [asked for _, asked in origin.asked if asked.body] == []


@pytest.mark.parametrize("size", [1, 3])
async def test_a_flood_of_tiny_chunks_reaches_the_engine_as_one_body(size: int) -> None:
    count = 100_000
    pieces = b"%x\r\n%s\r\n" % (size, b" " * size) * count
    async with recording() as origin, router_before(origin.url) as (router, port):
        before = rss()
        raw = head("Transfer-Encoding: chunked", "Connection: close") + pieces + b"0\r\n\r\n"
        flood = asyncio.ensure_future(exchange(dialler(port), raw, whole=True))
        waits = []
        while not flood.done():
            started = time.monotonic()
            assert (await router.infer("m", body=b"[]"))[0] == 200
            waits.append(time.monotonic() - started)
        assert (await flood).startswith(b"HTTP/1.1 200")
        assert [asked.body for tag, asked in origin.asked if tag == "test"] == [b" " * size * count]
        assert origin.unusual == []
        assert grown_by(before) < 50 * MB
        print(f"{len(waits)} others meanwhile, the slowest took {max(waits) * 1000:.0f} ms")
        assert max(waits) < 1.5


async def test_bodies_beyond_the_memory_for_another_try_are_streamed_or_refused() -> None:
    limits = ProxyLimits(body=BodyLimits(max_bytes=64 * MB), replay_bytes=8 * MB)
    async with recording() as origin, router_before(origin.url, limits) as (router, port):
        router.proxy._admission.memory_bytes = 4 * MB
        body = b" " * (3 * MB)
        whole = head(f"Content-Length: {len(body)}") + body
        held = [await dialler(port)() for _ in range(4)]
        for _, writer in held:
            writer.write(whole[:-1])
            await writer.drain()
        await until(lambda: router.proxy._admission.in_flight == 4)
        await until(lambda: router.proxy._admission.kept_bytes > 3 * MB)
        assert router.proxy._admission.kept_bytes <= 4 * MB
        chat = json.dumps({"model": "text", "prompt": "x" * (2 * MB)}).encode()
        answer = await exchange(
            dialler(port),
            head(f"Content-Length: {len(chat)}", "Connection: close", path=CHAT) + chat,
            whole=True,
        )
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After" in answer
        assert b"memory" in answer
        for _, writer in held:
            writer.write(whole[-1:])
        for reader, writer in held:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
        assert [asked.body for _, asked in origin.asked] == [body] * 4
        await until(lambda: router.proxy._admission.kept_bytes == 0)


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
