import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from federation.contract.errors import TooLarge
from federation.relay.forward import (
    BrokenMidway,
    ConnectFailed,
    Deadlines,
    Forwarder,
    Outgoing,
    Phase,
    SentNoAnswer,
    TimedOut,
)
from tests.fakes.http_peers import raw_upstream, reply, serving


@pytest.fixture
async def forwarder() -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(deadlines=Deadlines(connect_s=0.5, first_byte_s=1, idle_s=0.3))
    yield forwarder
    await forwarder.close()


async def echo(request: web.Request) -> web.Response:
    body = await request.read()
    seen = {"headers": dict(request.headers), "size": len(body), "path": request.raw_path}
    return web.json_response(seen, status=201)


def echo_app() -> web.Application:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", echo)
    return app


async def test_a_request_goes_out_as_given_and_its_answer_comes_back(forwarder: Forwarder) -> None:
    async with serving(echo_app()) as url:
        outgoing = Outgoing(
            method="POST", url=f"{url}/a/b%40c", headers={"X-Request-Id": "r"}, body=b"12345"
        )
        async with forwarder.send(outgoing) as upstream:
            body = await upstream.read(10_000)
    assert upstream.status == 201
    assert body is not None
    seen = json.loads(body)
    assert seen["path"] == "/a/b%40c"
    assert seen["size"] == 5
    assert {name.lower() for name in seen["headers"]} == {"host", "x-request-id", "content-length"}


@pytest.mark.parametrize("length", [9, None])
async def test_a_streamed_body_has_one_framing(forwarder: Forwarder, length: int | None) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"abc", b"def", b"ghi"):
            yield piece

    async with serving(echo_app()) as url:
        outgoing = Outgoing(method="POST", url=url, body=pieces(), length=length)
        async with forwarder.send(outgoing) as upstream:
            body = await upstream.read(10_000)
    assert body is not None
    seen = json.loads(body)
    framing = {n.lower() for n in seen["headers"]} & {"content-length", "transfer-encoding"}
    assert framing == ({"content-length"} if length else {"transfer-encoding"})
    assert seen["size"] == 9


async def test_the_error_of_a_streamed_body_comes_out_as_it_is(forwarder: Forwarder) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"
        raise TooLarge("enough")

    async with serving(echo_app()) as url:
        with pytest.raises(TooLarge):
            async with forwarder.send(Outgoing(method="POST", url=url, body=pieces())):
                pass


async def test_no_connection_means_that_nothing_ran(forwarder: Forwarder) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ConnectFailed) as caught:
            async with forwarder.send(Outgoing(method="POST", url=url, body=b"x")):
                pass
    assert not caught.value.may_have_run
    assert not caught.value.answer_began


async def test_a_connection_that_is_never_accepted_times_out_in_that_phase() -> None:
    forwarder = Forwarder(deadlines=Deadlines(connect_s=0.1, first_byte_s=5))
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        with pytest.raises(TimedOut) as caught:
            async with forwarder.send(
                Outgoing(method="POST", url=f"http://127.0.0.1:{address[1]}")
            ):
                pass
        for filler in fillers:
            filler.close()
    await forwarder.close()
    assert caught.value.phase is Phase.CONNECT
    assert not caught.value.may_have_run


async def test_a_reset_instead_of_an_answer_may_have_run_and_is_sent_once(
    forwarder: Forwarder,
) -> None:
    async def reset(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.transport.abort()

    async with raw_upstream(reset) as upstream:
        with pytest.raises(SentNoAnswer) as caught:
            async with forwarder.send(Outgoing(method="POST", url=upstream.url, body=b"x")):
                pass
        assert len(upstream.heads) == 1
    assert caught.value.may_have_run
    assert not caught.value.answer_began


async def test_a_post_on_a_connection_that_died_while_idle_is_not_repeated(
    forwarder: Forwarder,
) -> None:
    async def answer_once_then_close_on_the_next(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(reply(b"first"))
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with raw_upstream(answer_once_then_close_on_the_next) as upstream:
        async with forwarder.send(Outgoing(method="POST", url=upstream.url)) as first:
            assert await first.read(100) == b"first"
        with pytest.raises(SentNoAnswer):
            async with forwarder.send(Outgoing(method="POST", url=upstream.url)):
                pass
        assert len(upstream.heads) == 1


async def test_nonsense_instead_of_http_is_no_answer(forwarder: Forwarder) -> None:
    async def nonsense(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"220 smtp.example ready\r\n\r\n")
        await writer.drain()

    async with raw_upstream(nonsense) as upstream:
        with pytest.raises(SentNoAnswer):
            async with forwarder.send(Outgoing(method="GET", url=upstream.url)):
                pass


async def silence(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_silence_times_out_before_the_first_byte() -> None:
    forwarder = Forwarder(deadlines=Deadlines(first_byte_s=0.1))
    async with raw_upstream(silence) as upstream:
        with pytest.raises(TimedOut) as caught:
            async with forwarder.send(Outgoing(method="POST", url=upstream.url)):
                pass
    await forwarder.close()
    assert caught.value.phase is Phase.FIRST_BYTE
    assert caught.value.may_have_run
    assert not caught.value.answer_began


async def half_then_silence(
    head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(reply(b"half", length=100))
    await reader.read()


async def test_an_answer_that_pauses_too_long_times_out_as_idle(forwarder: Forwarder) -> None:
    async with raw_upstream(half_then_silence) as upstream:
        with pytest.raises(TimedOut) as caught:
            async with forwarder.send(Outgoing(method="POST", url=upstream.url)) as answer:
                await answer.read(1000)
    assert caught.value.phase is Phase.IDLE
    assert caught.value.answer_began


@pytest.mark.parametrize(
    "bytes_sent",
    [
        reply(b"half", length=100),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_never_taken_for_whole(
    forwarder: Forwarder, bytes_sent: bytes
) -> None:
    async def half(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes_sent)
        await writer.drain()

    async with raw_upstream(half) as upstream:
        with pytest.raises(BrokenMidway) as caught:
            async with forwarder.send(Outgoing(method="POST", url=upstream.url)) as answer:
                await answer.read(1000)
    assert caught.value.answer_began


async def test_pieces_of_a_stream_come_as_they_are_sent(forwarder: Forwarder) -> None:
    go_on = asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await go_on.wait()
        await response.write(b"data: 2\n\n")
        return response

    app = web.Application()
    app.router.add_post("/", events)
    async with (
        serving(app) as url,
        forwarder.send(Outgoing(method="POST", url=url)) as upstream,
    ):
        chunks = upstream.chunks()
        assert await anext(chunks) == b"data: 1\n\n"
        go_on.set()
        assert await anext(chunks) == b"data: 2\n\n"
        assert [chunk async for chunk in chunks] == []


async def test_leaving_early_closes_the_connection_at_once(forwarder: Forwarder) -> None:
    async with raw_upstream(half_then_silence) as upstream:
        gone = asyncio.Event()

        async def watch(
            head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(reply(b"half", length=100))
            await reader.read()
            gone.set()

        upstream.script = watch
        async with forwarder.send(Outgoing(method="POST", url=upstream.url)) as answer:
            await anext(answer.chunks())
        async with asyncio.timeout(5):
            await gone.wait()


async def test_a_cancelled_caller_closes_the_connection(forwarder: Forwarder) -> None:
    gone, asked = asyncio.Event(), asyncio.Event()

    async def watch(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        asked.set()
        await reader.read()
        gone.set()

    async def call(url: str) -> None:
        async with forwarder.send(Outgoing(method="POST", url=url)):
            pass

    async with raw_upstream(watch) as upstream:
        task = asyncio.create_task(call(upstream.url))
        await asked.wait()
        task.cancel()
        async with asyncio.timeout(5):
            await gone.wait()


async def test_a_whole_answer_leaves_the_connection_for_the_next(forwarder: Forwarder) -> None:
    peers: set[object] = set()

    async def note(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/", note)
    async with serving(app) as url:
        for _ in range(5):
            async with forwarder.send(Outgoing(method="POST", url=url, body=b"x")) as upstream:
                await upstream.read(100)
    assert len(peers) == 1


async def test_redirects_are_answers_and_compressed_bodies_stay_compressed(
    forwarder: Forwarder,
) -> None:
    async def redirect(request: web.Request) -> web.Response:
        headers = {"Location": "http://127.0.0.1:1/", "Content-Encoding": "gzip"}
        return web.Response(status=302, body=b"\x1f\x8bnot really", headers=headers)

    app = web.Application()
    app.router.add_get("/", redirect)
    async with serving(app) as url, forwarder.send(Outgoing(method="GET", url=url)) as upstream:
        assert upstream.status == 302
        assert await upstream.read(100) == b"\x1f\x8bnot really"


async def test_a_body_over_the_limit_is_not_read_on(forwarder: Forwarder) -> None:
    async with (
        serving(echo_app()) as url,
        forwarder.send(Outgoing(method="POST", url=url)) as upstream,
    ):
        assert await upstream.read(3) is None
