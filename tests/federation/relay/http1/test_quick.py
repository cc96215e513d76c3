"""Requests that are answered without a coroutine, over real sockets."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from federation.relay.application import Application, make_application
from federation.relay.http1.alike import Alike
from federation.relay.http1.heads import RequestHead
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.http1.server import ServerConnection
from tests.fakes.http_peers import serving, talk

POST = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
LAST = b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Soon:
    """Answers in the next turn of the loop; /handed is handed over instead."""

    def __init__(self, app: Application, connection: ServerConnection, raw: bytes) -> None:
        self.app, self.connection, self.raw = app, connection, raw
        self.abandoned = False

    def start(self) -> None:
        if b"/handed" in self.raw:
            self.connection.hand_over(self.raw, self.respond)
        elif b"/never" not in self.raw:
            asyncio.get_running_loop().call_soon(self.answer)

    def respond(self, request: Request) -> Coroutine[Any, Any, None]:
        async def going_on() -> StreamResponse:
            return Response(text=f"handed {request.path};")

        return self.app.respond(request, going_on())

    def answer(self) -> None:
        self.connection.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n", b"quick;")

    def abandon(self) -> None:
        self.abandoned = True
        self.connection.hand_over(self.raw, self.respond)


def application(taken: list[Soon]) -> Application:
    async def handle(request: Request) -> StreamResponse:
        return Response(text=f"slow {request.path};")

    app = make_application(handle)

    def quick(
        connection: ServerConnection, head: RequestHead, alike: Alike, raw: bytes, body: bytes
    ) -> Soon | None:
        if head.target == "/slow" or not head.persistent:
            return None
        assert body == b"abc"
        taken.append(Soon(app, connection, raw))
        return taken[-1]

    app.quick = quick
    return app


async def test_quick_slow_and_handed_over_ones_are_answered_in_their_order() -> None:
    taken: list[Soon] = []
    async with serving(application(taken)) as url:
        paths = [b"/a", b"/slow", b"/handed", b"/a", b"/handed", b"/slow", b"/b"]
        answer = await talk(url, b"".join(POST % path for path in paths) + LAST)
    words = [b"quick;", b"slow /slow;", b"handed /handed;", b"quick;"]
    words += [b"handed /handed;", b"slow /slow;", b"quick;", b"slow /slow;"]
    at = 0
    for word in words:
        at = answer.index(word, at) + len(word)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == answer.count(b"\r\nDate: ") == 8
    assert len(taken) == 5


async def test_a_client_that_leaves_abandons_what_is_under_way() -> None:
    taken: list[Soon] = []
    async with serving(application(taken)) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(POST % b"/never")
        async with asyncio.timeout(5):
            while not taken:
                await asyncio.sleep(0.001)
            writer.close()
            while not taken[0].abandoned:
                await asyncio.sleep(0.001)
        await writer.wait_closed()


async def test_a_client_that_asks_on_without_reading_waits() -> None:
    """Answers pile up to a bound; then the client's next requests are not looked at."""
    taken: list[Soon] = []
    async with serving(application(taken)) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        count = 3000
        writer.write((POST % b"/a") * count)
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            got = 0
            while got < count:
                got += (await reader.read(1 << 16)).count(b"quick;")
                if reader.at_eof():
                    break
        writer.close()
        await writer.wait_closed()
    assert len(taken) == count
