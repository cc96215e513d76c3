import asyncio
import socket

import pytest
from aiohttp import http_parser, web

from federation.contract.errors import Conflict, FederationError, Invalid, TooLarge, Unavailable
from federation.relay.errors import SlowClient
from federation.relay.server import (
    BodyLimits,
    ClientStalled,
    ServerLimits,
    break_off,
    iter_body,
    listen,
    make_runner,
    read_body,
    require_compiled_parser,
    write,
)
from tests.fakes.http_peers import serving, talk


class Reader:
    """An application that reads bodies under limits and notes what became of them."""

    def __init__(self, limits: BodyLimits) -> None:
        self.limits = limits
        self.bodies: list[bytes] = []
        self.errors: list[FederationError] = []
        self.app = web.Application()
        self.app.router.add_post("/", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        try:
            self.bodies.append(await read_body(request, self.limits))
        except FederationError as error:
            self.errors.append(error)
            return web.Response(status=400, text=error.message)
        return web.Response(text="ok")


def post(headers: str, body: bytes = b"") -> bytes:
    return f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode() + body


async def test_a_body_is_read_whole_however_it_is_framed() -> None:
    reader = Reader(BodyLimits())
    async with serving(reader.app) as url:
        await talk(url, post("Content-Length: 5\r\n", b"hello"))
        await talk(url, post("Transfer-Encoding: chunked\r\n", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"))
        await talk(url, post(""))
    assert reader.bodies == [b"hello", b"hello", b""]


async def test_an_announced_length_over_the_limit_is_refused_unread() -> None:
    reader = Reader(BodyLimits(max_bytes=10))
    async with serving(reader.app) as url:
        await talk(url, post("Content-Length: 11\r\n", b"hello worl"), seconds=1)
    assert [type(error) for error in reader.errors] == [TooLarge]


async def test_chunks_over_the_limit_are_refused_as_they_come() -> None:
    reader = Reader(BodyLimits(max_bytes=10))
    async with serving(reader.app) as url:
        await talk(url, post("Transfer-Encoding: chunked\r\n", b"b\r\nhello world\r\n0\r\n\r\n"))
    assert [type(error) for error in reader.errors] == [TooLarge]


@pytest.mark.parametrize("first", [b"", b"hel"])
async def test_a_promised_body_that_does_not_come_is_given_up(first: bytes) -> None:
    reader = Reader(BodyLimits(grace_s=0.1))
    async with serving(reader.app) as url:
        answer = await talk(url, post("Content-Length: 5\r\n", first), seconds=3)
    assert b"too slowly" in answer
    assert [type(error) for error in reader.errors] == [SlowClient]


async def test_a_dripping_body_is_given_up_although_it_never_pauses() -> None:
    limits = BodyLimits(grace_s=0.2, min_bytes_per_s=1000)
    reader = Reader(limits)
    async with serving(reader.app) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(post("Content-Length: 1000\r\n"))
        async with asyncio.timeout(10):
            while not reader.errors:
                writer.write(b"x")
                await asyncio.sleep(0.02)
        writer.close()
    assert "too slowly" in reader.errors[0].message


async def test_total_time_bounds_even_a_fast_enough_body() -> None:
    limits = BodyLimits(total_s=0.3, grace_s=10, min_bytes_per_s=1)
    reader = Reader(limits)
    async with serving(reader.app) as url:
        answer = await talk(url, post("Content-Length: 5\r\n"), seconds=3)
    assert b"400" in answer.split(b"\r\n")[0]


async def test_time_that_the_reader_itself_takes_is_not_the_clients() -> None:
    done = asyncio.Event()

    async def slow_reader(request: web.Request) -> web.Response:
        pieces = []
        async for piece in iter_body(request, BodyLimits(grace_s=0.6, min_bytes_per_s=1 << 30)):
            pieces.append(piece)
            await asyncio.sleep(0.2)
        done.set()
        return web.Response(text=str(sum(map(len, pieces))))

    app = web.Application()
    app.router.add_post("/", slow_reader)
    async with serving(app) as url:
        size = 400_000
        answer = await talk(url, post(f"Content-Length: {size}\r\n", b"x" * size))
    assert answer.endswith(b"400000")
    assert done.is_set()


async def test_a_broken_chunk_never_ends_a_body() -> None:
    reader = Reader(BodyLimits(grace_s=0.3))
    async with serving(reader.app) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(post("Transfer-Encoding: chunked\r\n", b"2\r\nhe\r\n"))
        await asyncio.sleep(0.1)
        writer.write(b"zz\r\n")
        async with asyncio.timeout(10):
            while not reader.errors:
                await asyncio.sleep(0.01)
        writer.close()
    assert isinstance(reader.errors[0], Invalid | SlowClient)
    assert not reader.bodies


async def test_idle_and_half_sent_heads_are_closed() -> None:
    reader = Reader(BodyLimits())
    async with serving(reader.app, ServerLimits(keepalive_s=0.3)) as url:
        for sent in (b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: x\r\nA: "):
            async with asyncio.timeout(10):
                host, port = url.removeprefix("http://").split(":")
                stream, writer = await asyncio.open_connection(host, int(port))
                writer.write(sent)
                await stream.read()
                writer.close()


async def test_a_client_that_stops_reading_is_cut_off() -> None:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await write(request, response, b"x" * 65536, stall_s=0.2)
        except ClientStalled as error:
            outcome.set_result(str(error))
            raise

    app = web.Application()
    app.router.add_get("/", endless)
    async with serving(app) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            assert "took nothing for 0.2 s" in await outcome
        writer.close()


@pytest.mark.parametrize("length", [None, 100])
async def test_an_answer_broken_off_is_visibly_incomplete(length: int | None) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = length
        await response.prepare(request)
        await response.write(b"half")
        break_off(request)
        return response

    app = web.Application()
    app.router.add_get("/", half)
    async with serving(app) as url:
        answer = await talk(url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", seconds=2)
    assert b"half" in answer
    assert b"0\r\n\r\n" not in answer


async def test_a_port_in_use_is_said_in_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        runner = make_runner(web.Application())
        with pytest.raises(Conflict, match="in use by another process") as caught:
            await listen(runner, address)
        await runner.cleanup()
    assert caught.value.reason == "address-in-use"


@pytest.mark.parametrize("address", ["", "7400", "host:", "host:x", ":7400", "h:99999"])
async def test_an_address_that_is_none_is_refused(address: str) -> None:
    runner = make_runner(web.Application())
    with pytest.raises(Invalid, match="not an address"):
        await listen(runner, address)
    await runner.cleanup()


def test_the_compiled_parser_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    require_compiled_parser()
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(Unavailable, match="compiled HTTP parser"):
        require_compiled_parser()
    require_compiled_parser(forced=True)
