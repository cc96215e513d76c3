"""The server's side of a connection, over real sockets."""

import asyncio
import contextlib

import pytest

from federation.relay.application import make_application
from federation.relay.bodies import read_body
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.server import BodyLimits, ServerLimits
from federation.relay.transport import PREFACE, Inbound
from tests.fakes.http_peers import serving, talk

GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Handler:
    """Answers with the path and the body; `/wait` not before `go_on`."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.running = self.most = self.cancelled = 0

    async def __call__(self, request: Request) -> StreamResponse:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if request.path == "/wait":
                await self.go_on.wait()
            if request.path == "/unread":
                return Response(text="no")
            body = await read_body(request, BodyLimits(grace_s=1.0))
            return Response(text=f"{request.path}:{body.decode()};")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


async def test_pipelined_requests_are_answered_in_their_order_one_at_a_time() -> None:
    handler = Handler()
    post = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    chunked = (
        b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
    )
    async with serving(make_application(handler)) as url:
        asyncio.get_running_loop().call_later(0.05, handler.go_on.set)
        answer = await talk(url, GET % b"/wait" + post + chunked + LAST)
    found = [answer.index(text) for text in (b"/wait:;", b"/b:abc;", b"/c:de;", b"/last:;")]
    assert found == sorted(found)
    assert handler.most == 1


async def test_a_request_may_come_byte_by_byte() -> None:
    async with serving(make_application(Handler())) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for byte in b"\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert await reader.readexactly(7) == b"/b:abc;"
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_leaves_ends_what_is_done_for_it() -> None:
    handler = Handler()
    async with serving(make_application(handler)) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(GET % b"/wait")
        async with asyncio.timeout(5):
            while not handler.running:
                await asyncio.sleep(0.005)
        writer.close()
        async with asyncio.timeout(5):
            while not handler.cancelled:
                await asyncio.sleep(0.005)


async def test_a_body_that_nobody_wanted_is_no_request() -> None:
    async with serving(make_application(Handler())) as url:
        raw = b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(LAST)
        whole = await talk(url, raw + LAST + LAST)
        assert whole.count(b"HTTP/1.1 200") == 2
        assert whole.count(b"/last:") == 1
        half = await talk(url, raw + LAST[:10], seconds=3)
        assert half.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("raw", "ends"),
    [
        (b"GET /a HTTP/1.0\r\n\r\n", True),
        (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", True),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n", True),
    ],
)
async def test_a_connection_ends_when_its_client_says_so(raw: bytes, ends: bool) -> None:
    async with serving(make_application(Handler())) as url:
        answer = await talk(url, raw, seconds=0.5)
    assert answer.startswith(b"HTTP/1.1 200")
    assert (b"Connection: close" in answer) is ends
    assert (b"Connection: keep-alive" in answer) is not ends


async def test_a_head_answer_has_no_body_and_old_clients_get_no_chunks() -> None:
    async def stream(request: Request) -> StreamResponse:
        response = StreamResponse()
        await response.prepare(request)
        await response.write(b"a" * 40_000)
        await response.write(b"")
        return response

    async with serving(make_application(stream)) as url:
        old = await talk(url, b"GET / HTTP/1.0\r\n\r\n")
        assert old.endswith(b"\r\n\r\n" + b"a" * 40_000)
        head = await talk(url, LAST.replace(b"GET", b"HEAD"))
        assert head.endswith(b"\r\n\r\n")
        new = await talk(url, LAST)
        assert new.endswith(b"\r\n9c40\r\n" + b"a" * 40_000 + b"\r\n0\r\n\r\n")


class Other:
    """What takes over a connection that begins with HTTP/2's preface."""

    def __init__(self, inbound: Inbound) -> None:
        self.inbound, self.got = inbound, b""
        self.told: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append(f"made {self.inbound.remote}")

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.inbound.transport.write(b"h2!")

    def eof_received(self) -> bool | None:
        self.told.append("eof")
        return None

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")

    def drain(self) -> None:
        self.told.append("drain")
        self.inbound.transport.close()


async def test_a_client_that_speaks_http2_is_handed_over_with_its_first_bytes() -> None:
    made: list[Other] = []
    app = make_application(Handler())

    def takeover(inbound: Inbound) -> Other:
        made.append(Other(inbound))
        return made[-1]

    async with serving(app) as url:
        assert (await talk(url, PREFACE + b"\0", seconds=1)).startswith(b"HTTP/1.1 400")
    app.on_h2 = takeover
    async with serving(app, ServerLimits(shutdown_s=1.0)) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE[:10])
        await asyncio.sleep(0.02)
        writer.write(PREFACE[10:] + b"frames")
        assert await reader.readexactly(3) == b"h2!"
        assert made[0].got == PREFACE + b"frames"
        late = await talk(url, (GET % b"/a") + PREFACE, seconds=1)
        assert b"HTTP/1.1 400" in late
        assert len(made) == 1
    assert made[0].told == ["made 127.0.0.1", "drain", "lost"]
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_stop_lets_what_runs_end() -> None:
    handler = Handler()
    async with serving(make_application(handler), ServerLimits(shutdown_s=5.0)) as url:
        running = asyncio.get_running_loop().create_task(talk(url, GET % b"/wait"))
        idle = asyncio.get_running_loop().create_task(talk(url, GET % b"/a"))
        async with asyncio.timeout(5):
            while not handler.running:
                await asyncio.sleep(0.005)
        asyncio.get_running_loop().call_later(0.1, handler.go_on.set)
    answer = await running
    assert answer.endswith(b"/wait:;")
    assert b"Connection: close" in answer
    assert (await idle).endswith(b"/a:;")
