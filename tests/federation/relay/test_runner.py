import asyncio

from federation.relay.application import make_application
from federation.relay.http1.messages import Request, Response
from federation.relay.runner import RelayRunner
from federation.relay.server import ServerLimits, listen, make_runner
from tests.fakes.http_peers import talk


async def test_it_serves_until_it_is_cleaned_up_and_then_closes_everything() -> None:
    closed: list[str] = []

    async def hello(_: Request) -> Response:
        return Response(text="hello")

    async def close() -> None:
        closed.append("application")

    app = make_application(hello)
    app.on_cleanup.append(close)
    runner = make_runner(app, ServerLimits(shutdown_s=0.2))
    assert isinstance(runner, RelayRunner)
    host, port = await listen(runner, "127.0.0.1:0")
    assert runner.addresses == [(host, port)]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert len(runner.open) == 1
    await runner.cleanup()
    await runner.cleanup()
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    assert closed == ["application"]
    assert (await refused(host, port)) is True


async def refused(host: str, port: int) -> bool:
    try:
        await talk(f"http://{host}:{port}", b"")
    except ConnectionRefusedError:
        return True
    return False
