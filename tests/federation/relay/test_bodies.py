import asyncio

import pytest

from federation.contract.errors import FederationError, Invalid, TooLarge
from federation.relay.application import make_application
from federation.relay.bodies import (
    BodyReader,
    Pieces,
    break_off,
    check_length,
    iter_body,
    read_body,
    write,
)
from federation.relay.errors import SlowClient
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.server import BodyLimits, ClientStalled
from tests.fakes.http_peers import serving, talk
from tests.fakes.requests import request_with


class Reader:
    """An application that reads bodies under limits and notes what became of them."""

    def __init__(self, limits: BodyLimits) -> None:
        self.limits = limits
        self.bodies: list[bytes] = []
        self.errors: list[FederationError] = []
        self.app = make_application(self.handle)

    async def handle(self, request: Request) -> Response:
        try:
            self.bodies.append(await read_body(request, self.limits))
        except FederationError as error:
            self.errors.append(error)
            raise
        return Response(text="ok")


def post(headers: str, body: bytes = b"") -> bytes:
    return f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode() + body


async def test_a_body_is_read_whole_however_it_is_framed() -> None:
    reader = Reader(BodyLimits())
    async with serving(reader.app) as url:
        await talk(url, post("Content-Length: 5\r\n", b"hello"))
        await talk(url, post("Transfer-Encoding: chunked\r\n", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"))
        await talk(url, post(""))
        large = b"x" * 1_000_000
        await talk(url, post(f"Content-Length: {len(large)}\r\n", large))
    assert reader.bodies == [b"hello", b"hello", b"", large]


@pytest.mark.parametrize(
    ("raw", "kind", "status"),
    [
        (post("Content-Length: 11\r\n", b"hello worl"), TooLarge, b"413"),
        (post("Transfer-Encoding: chunked\r\n", b"b\r\nhello world\r\n0"), TooLarge, b"413"),
        (post("Content-Length: 5\r\n", b"hel"), SlowClient, b"408"),
        (post("Content-Length: 5\r\n"), SlowClient, b"408"),
        (post("Transfer-Encoding: chunked\r\n", b"2\r\nhe\r\nzz\r\n"), Invalid, b"400"),
    ],
)
async def test_a_body_beyond_its_limits_is_refused(raw: bytes, kind: type, status: bytes) -> None:
    reader = Reader(BodyLimits(max_bytes=10, grace_s=0.1))
    async with serving(reader.app) as url:
        answer = await talk(url, raw, seconds=5)
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert [type(error) for error in reader.errors] == [kind]
    assert not reader.bodies


async def test_a_dripping_body_is_given_up_although_it_never_pauses() -> None:
    reader = Reader(BodyLimits(grace_s=0.2, min_bytes_per_s=1000))
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


async def test_time_that_the_reader_itself_takes_is_not_the_clients() -> None:
    async def slow_reader(request: Request) -> Response:
        pieces = []
        async for piece in iter_body(request, BodyLimits(grace_s=0.6, min_bytes_per_s=1 << 30)):
            pieces.append(piece)
            await asyncio.sleep(0.2)
        return Response(text=str(sum(map(len, pieces))))

    async with serving(make_application(slow_reader)) as url:
        size = 400_000
        answer = await talk(url, post(f"Content-Length: {size}\r\n", b"x" * size))
    assert answer.endswith(b"400000")


async def test_what_has_come_is_there_without_waiting() -> None:
    request = request_with("POST", "/", b"abc", {"Content-Length": "3"})
    assert BodyReader(request, BodyLimits()).whole() == b"abc"
    part = request_with("POST", "/", b"ab", {"Content-Length": "3"})
    assert BodyReader(part, BodyLimits()).whole() is None
    with pytest.raises(TooLarge):
        check_length(part, BodyLimits(max_bytes=2))


def test_pieces_keep_their_order_whatever_their_size() -> None:
    pieces, sizes = Pieces(), (1, 5000, 2, 3, 9000, 4)
    for number, size in enumerate(sizes):
        pieces.add(b"%d" % number * size)
    assert pieces.joined() == b"".join(b"%d" % n * size for n, size in enumerate(sizes))
    assert repr(pieces) == f"Pieces({sum(sizes)} bytes)"


async def test_a_client_that_stops_reading_is_cut_off() -> None:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def endless(request: Request) -> StreamResponse:
        response = StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await write(request, response, b"x" * 65536, stall_s=0.2)
        except ClientStalled as error:
            outcome.set_result(str(error))
            raise

    async with serving(make_application(endless)) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            assert "took nothing for 0.2 s" in await outcome
        writer.close()


@pytest.mark.parametrize("length", [None, 100])
async def test_an_answer_broken_off_is_visibly_incomplete(length: int | None) -> None:
    async def half(request: Request) -> StreamResponse:
        response = StreamResponse()
        response.content_length = length
        await response.prepare(request)
        await response.write(b"half")
        break_off(request)
        return response

    async with serving(make_application(half)) as url:
        answer = await talk(url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", seconds=2)
    assert b"half" in answer
    assert b"0\r\n\r\n" not in answer


async def test_pieces_are_gathered_as_they_come_until_there_are_enough() -> None:
    request = request_with("POST", "/", b"ab", {"Content-Length": "6"})
    assert request.body is not None
    got: list[bytes] = []

    def add(piece: bytes) -> bool:
        got.append(piece)
        return len(got) < 3

    reader = BodyReader(request, BodyLimits())
    gathering = asyncio.ensure_future(reader.gather(add))
    for piece in (b"c", b"d"):
        await asyncio.sleep(0)
        request.body.feed(piece)
        request.body.wake()
    assert await gathering is False
    assert got == [b"ab", b"c", b"d"]
    request.body.feed(b"ef")
    assert await reader.piece() == b"ef"
    assert await BodyReader(request, BodyLimits()).gather(add) is True


async def test_what_is_gathered_has_the_same_limit_of_size() -> None:
    request = request_with("POST", "/", b"", {"Transfer-Encoding": "chunked"})
    assert request.body is not None
    pieces = Pieces()
    reader = BodyReader(request, BodyLimits(max_bytes=3))
    gathering = asyncio.ensure_future(reader.gather(pieces.add))
    await asyncio.sleep(0)
    request.body.feed(b"2\r\nab\r\n")
    request.body.wake()
    request.body.feed(b"2\r\ncd\r\n")
    request.body.wake()
    with pytest.raises(TooLarge):
        await gathering
    assert pieces.size == 2


async def test_a_slow_client_that_keeps_its_rate_is_waited_for_beyond_the_grace() -> None:
    limits = BodyLimits(grace_s=0.2, min_bytes_per_s=50)
    reader = Reader(limits)
    async with serving(reader.app) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(post("Content-Length: 100\r\n"))
        async with asyncio.timeout(10):
            for _ in range(10):
                writer.write(b"x" * 10)
                await asyncio.sleep(0.05)
            while not (reader.bodies or reader.errors):
                await asyncio.sleep(0.01)
        writer.close()
    assert (reader.bodies, reader.errors) == ([b"x" * 100], [])


def test_pieces_are_given_as_they_were_added_but_for_tiny_ones() -> None:
    pieces, large = Pieces(), b"x" * 5000
    for piece in (b"a", b"b", large, b"c"):
        assert pieces.add(piece) is True
    assert pieces.all() == (b"ab", large, b"c")
    assert pieces.all()[1] is large
