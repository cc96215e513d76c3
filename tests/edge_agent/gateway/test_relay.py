import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from edge_agent.gateway.gateway import GatewayLimits
from edge_agent.gateway.relay import RelayLimits
from federation.relay.forward import Deadlines
from federation.relay.server import BodyLimits
from tests.edge_agent.gateway.bench import PointingBackend, bench, until
from tests.fakes.http_peers import raw_upstream, reply, serving

INFER = "/v2/models/m/versions/1/infer"
MEGABYTE = 1024 * 1024


def limits(**changes: object) -> GatewayLimits:
    quick = {"engine": Deadlines(connect_s=0.3, first_byte_s=0.3, idle_s=0.3)}
    return GatewayLimits(relay=RelayLimits(**{**quick, **changes}))  # type: ignore[arg-type]


class Engine:
    """An engine that notes what it is sent and answers as the test says."""

    def __init__(self, answer: web.StreamResponse | None = None, body: bytes = b"{}") -> None:
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.answer_headers: dict[str, str] = {"Content-Type": "application/json"}
        self.answer_body = body
        self.status = 200
        self.app = web.Application(client_max_size=1 << 30)
        self.app.router.add_route("*", "/{path:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append(await request.read())
        return web.Response(status=self.status, headers=self.answer_headers, body=self.answer_body)


async def test_the_engine_is_sent_only_what_it_needs() -> None:
    engine = Engine()
    async with serving(engine.app) as url, bench(PointingBackend(url)) as gate:
        await gate.post(
            INFER,
            b"{}",
            authorization="Bearer secret",
            cookie="a=b",
            x_forwarded_for="1.2.3.4",
            x_fed_model="other",
            traceparent="00-1-2-01",
            content_type="application/json",
            accept_encoding="gzip",
        )
    assert set(engine.headers[0]) == {
        "host",
        "accept",
        "accept-encoding",
        "content-type",
        "content-length",
        "traceparent",
    }
    assert engine.headers[0]["accept-encoding"] == "identity"


async def test_a_chunked_body_reaches_the_engine_with_a_length() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x"

    engine = Engine()
    async with (
        serving(engine.app) as url,
        bench(PointingBackend(url)) as gate,
        gate.client.post(gate.url + INFER, data=pieces()) as response,
    ):
        assert response.status == 200
    assert engine.bodies == [b"x" * 100]
    assert engine.headers[0]["content-length"] == "100"
    assert "transfer-encoding" not in engine.headers[0]


async def test_bodies_over_the_limits_are_413_whatever_their_framing() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 1000

    small = limits(body=BodyLimits(max_bytes=40_000), unsized_bytes=20_000)
    engine = Engine()
    async with serving(engine.app) as url, bench(PointingBackend(url), limits=small) as gate:
        status, headers, body = await gate.post(INFER, b"x" * 40_001)
        assert (status, "larger than 40000 bytes" in json.loads(body)["error"]) == (413, True)
        assert "x-fed-refused" not in headers
        async with gate.client.post(gate.url + INFER, data=pieces()) as response:
            assert response.status == 413
            assert "Send Content-Length" in await response.text()
        assert (await gate.post(INFER, b"x" * 40_000))[0] == 200
    assert len(engine.bodies) == 1


async def test_a_slow_body_is_cut_and_the_engine_is_not_blamed() -> None:
    slow = limits(body=BodyLimits(grace_s=0.1))

    async def drip() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(5)

    engine = Engine()
    async with serving(engine.app) as url, bench(PointingBackend(url), limits=slow) as gate:
        for length in ("10", "1000000"):
            async with gate.client.post(
                gate.url + INFER, data=drip(), headers={"Content-Length": length}
            ) as response:
                assert response.status == 408
        assert not gate.doubts
    assert not engine.bodies


async def test_a_binary_answer_is_renamed_and_its_two_lengths_agree() -> None:
    head = b'{"model_name":"m--v1","model_version":"1","outputs":[{"name":"y","datatype":"FP32",'
    head += b'"shape":[2],"parameters":{"binary_data_size":8}}]}'
    tensor = b'"model_name":"m--v1"'  # bytes of a tensor are never touched
    engine = Engine(body=head + tensor)
    engine.answer_headers = {"Inference-Header-Content-Length": str(len(head))}
    async with serving(engine.app) as url, bench(PointingBackend(url)) as gate:
        _, headers, body = await gate.post(INFER, b"{}")
        length = int(headers["inference-header-content-length"])
        assert int(headers["content-length"]) == len(body)
        assert json.loads(body[:length])["model_name"] == "m"
        assert body[length:] == tensor


@pytest.mark.parametrize("cut", [1, 20, 45, 60])
async def test_a_name_that_comes_in_two_pieces_is_still_replaced(cut: int) -> None:
    body = b'{"model_name":"m--v1","model_version":"7","outputs":[]}'

    async def pieces(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        answer = reply(body)
        at = answer.index(b"{") + cut
        writer.write(answer[:at])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(answer[at:])
        await writer.drain()

    async with raw_upstream(pieces) as upstream, bench(PointingBackend(upstream.url)) as gate:
        _, _, answer = await gate.post(INFER, b"{}")
    assert json.loads(answer) == {"model_name": "m", "model_version": "1", "outputs": []}


async def test_an_engine_that_knows_the_models_name_is_relayed_byte_for_byte() -> None:
    engine = Engine(body=b'{"model_name":"m--v1", "odd" :1}')
    engine.answer_headers = {"X-Own": "1", "Set-Cookie": "a=b", "X-Fed-Refused": "draining"}
    async with (
        serving(engine.app) as url,
        bench(PointingBackend(url, named=False)) as gate,
    ):
        _, headers, body = await gate.post(INFER, b"{}", accept_encoding="gzip")
    assert body == engine.answer_body
    assert headers["x-own"] == "1"
    assert not {"set-cookie", "x-fed-refused", "server"} & {name.lower() for name in headers}
    assert engine.headers[0]["accept-encoding"] == "gzip"


async def test_an_openai_body_asks_the_engine_by_the_name_it_knows() -> None:
    engine = Engine(body=b'{"object":"x","model":"text--v1"}')
    named = {"x_fed_model": "text", "x_fed_version": "1"}
    async with serving(engine.app) as url, bench(PointingBackend(url)) as gate:
        asked: dict[str, object] = {"model": "text@champion", "prompt": "x", "n": 1}
        _, _, body = await gate.post("/v1/completions", asked, **named)
        assert json.loads(body)["model"] == "text"
        for nonsense in (b"", b"{", b"\xff", b"[" * 100_000):
            status, _, body = await gate.post("/v1/completions", nonsense, **named)
            assert (status, "not JSON" in json.loads(body)["error"]["message"]) == (400, True)
    assert [json.loads(sent) for sent in engine.bodies] == [
        {"model": "text--v1", "prompt": "x", "n": 1}
    ]


async def test_metadata_that_is_none_is_a_bad_gateway() -> None:
    engine = Engine(body=b"<html>")
    async with serving(engine.app) as url, bench(PointingBackend(url)) as gate:
        assert (await gate.get("/v2/models/m/versions/1"))[0] == 502


async def test_a_long_error_is_passed_on_in_pieces() -> None:
    engine = Engine(body=b"e" * 300_000)
    engine.status = 500
    async with serving(engine.app) as url, bench(PointingBackend(url)) as gate:
        status, _, body = await gate.post(INFER, b"{}")
    assert (status, len(body)) == (500, 300_000)


async def abort(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def close(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def silence(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def half_error(
    head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(reply(b'{"error":', status="500 Oops", length=100))
    await writer.drain()


@pytest.mark.parametrize(
    ("script", "status"), [(abort, 502), (close, 502), (silence, 504), (half_error, 502)]
)
async def test_an_engine_that_gives_no_answer_may_have_run(script: object, status: int) -> None:
    assert callable(script)
    async with (
        raw_upstream(script) as upstream,
        bench(PointingBackend(upstream.url), limits=limits()) as gate,
    ):
        got, headers, body = await gate.post(INFER, b"{}")
        assert (got, headers["x-fed-outcome"]) == (status, "unknown")
        assert "x-fed-refused" not in headers
        assert "engine of this cluster" in json.loads(body)["error"]
        assert len(gate.doubts) == 1
        assert len(upstream.heads) == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "silent"])
async def test_an_answer_that_breaks_off_breaks_off_visibly_and_is_doubted(framing: str) -> None:
    async def half(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b'{"model_name":"m--v1","outputs":[' + b"1," * 40_000
        if framing == "chunked":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%s\r\n" % (len(body), body))
        else:
            writer.write(reply(body, length=1_000_000))
        await writer.drain()
        if framing == "silent":
            await reader.read()

    async with (
        raw_upstream(half) as upstream,
        bench(PointingBackend(upstream.url), limits=limits()) as gate,
    ):
        with pytest.raises(aiohttp.ClientError):
            await gate.post(INFER, b"{}")
        assert await gate.idle()
        assert "broke off" in gate.doubts[0][2]


async def test_an_event_stream_comes_piece_by_piece_and_a_cut_is_visible() -> None:
    go_on = asyncio.Event()

    async def events(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        event = b'data: {"model_name":"text--v1","text_output":"a"}\n\n'
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await go_on.wait()
        writer.transport.abort()

    async with raw_upstream(events) as upstream, bench(PointingBackend(upstream.url)) as gate:
        path = f"{gate.url}/v2/models/text/versions/1/generate_stream"
        async with gate.client.post(path, data=b"{}") as response:
            first = await response.content.readany()
            assert first == b'data: {"model_name":"text","text_output":"a"}\n\n'
            assert gate.gateway.in_flight("text", 1) == 1
            go_on.set()
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()
        assert gate.doubts


@pytest.mark.parametrize("answered", [False, True])
async def test_a_client_that_leaves_stops_the_engine_within_200_ms(*, answered: bool) -> None:
    gone, asked = asyncio.Event(), asyncio.Event()

    async def endless(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if answered:
            writer.write(
                reply(b"data: 1\n\n", head=b"Content-Type: text/event-stream\r\n", length=99)
            )
        await reader.readexactly(2)
        asked.set()
        await reader.read()
        gone.set()

    async with raw_upstream(endless) as upstream, bench(PointingBackend(upstream.url)) as gate:
        host, port = gate.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await asked.wait()
        if answered:
            await reader.readuntil(b"data: 1")
        writer.close()
        async with asyncio.timeout(5):
            await gone.wait()
        assert await gate.idle(5)
        assert not gate.doubts


async def test_20_megabytes_pass_both_ways_without_being_held() -> None:
    size = 20 * MEGABYTE
    first_in = asyncio.Event()

    async def mirror(request: web.Request) -> web.StreamResponse:
        received = 0
        async for chunk in request.content.iter_any():
            received += len(chunk)
            first_in.set()
        response = web.StreamResponse()
        response.content_length = received
        await response.prepare(request)
        for _ in range(received // MEGABYTE):
            await response.write(b"y" * MEGABYTE)
        return response

    async def upload() -> AsyncIterator[bytes]:
        yield b"x" * MEGABYTE
        async with asyncio.timeout(10):
            await first_in.wait()  # the engine has the first bytes before the last are sent
        for _ in range(size // MEGABYTE - 1):
            yield b"x" * MEGABYTE

    app = web.Application()
    app.router.add_post("/{path:.*}", mirror)
    async with serving(app) as url, bench(PointingBackend(url)) as gate:
        tracemalloc.start()
        headers = {"Content-Length": str(size)}
        async with gate.client.post(gate.url + INFER, data=upload(), headers=headers) as response:
            assert response.headers["content-length"] == str(size)
            got = 0
            async for chunk in response.content.iter_any():
                got += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert got == size
    assert peak < 10 * MEGABYTE


async def test_an_engine_that_is_read_slowly_is_slowed_down_and_not_buffered() -> None:
    written = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(400):
            await response.write(b"z" * 65536)
            written += 65536
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", flood)
    stalled = limits(stall_s=0.3)
    async with serving(app) as url, bench(PointingBackend(url), limits=stalled) as gate:
        host, port = gate.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        await until(lambda: gate.gateway.in_flight("m", 1) == 1)
        await until(lambda: gate.gateway.in_flight("m", 1) == 0, 5)
        assert written < 400 * 65536
        writer.close()
