import asyncio
import contextlib

from federation.relay.application import make_application
from federation.relay.http1.messages import Request, StreamResponse
from tests.fakes.http_peers import serving


async def test_a_writer_waits_for_its_client_and_learns_that_it_stalls() -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def handle(request: Request) -> StreamResponse:
        connection, response = request.connection, StreamResponse()
        assert connection.remote == "127.0.0.1"
        assert connection.wait_until_taken() is None
        await response.prepare(request)
        alarm = connection.bound_stall(0.2)
        try:
            while True:
                if (wait := response.put(b"x" * 100_000)) is not None:
                    await wait
        except TimeoutError:
            seen.append("stalled")
        alarm.clear()
        done.set()
        return response

    async with serving(make_application(handle)) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            await done.wait()
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    assert seen == ["stalled"]
