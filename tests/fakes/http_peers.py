"""Both ends of an HTTP connection for tests: a server, a scripted upstream, raw bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from federation.relay.runner import RelayRunner, Served
from federation.relay.server import ServerLimits, listen, make_runner

Script = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(
    app: web.Application | Served, limits: ServerLimits | None = None
) -> AsyncIterator[str]:
    """Serve `app` with the product's settings and yield `http://127.0.0.1:PORT`."""
    limits = limits or ServerLimits(shutdown_s=0.2, lingering_s=0.2)
    runner: web.AppRunner | RelayRunner
    if isinstance(app, web.Application):
        runner = make_runner(app, limits)
    else:
        runner = make_runner(app, limits)
    try:
        host, port = await listen(runner, "127.0.0.1:0")
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class RawUpstream:
    """A server that reads one request's head and then does what its script says, byte by byte."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.heads: list[bytes] = []
        self.url = ""
        self.closed_by_peer = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            await self.script(head, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed_by_peer.set()
        finally:
            writer.close()


@asynccontextmanager
async def raw_upstream(script: Script) -> AsyncIterator[RawUpstream]:
    """Run a RawUpstream on a port of its own."""
    upstream = RawUpstream(script)
    server = await asyncio.start_server(upstream._serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()


def reply(
    body: bytes, *, status: str = "200 OK", head: bytes = b"", length: int | None = None
) -> bytes:
    """Return the bytes of a whole response; `length` lies about its length."""
    size = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (status.encode(), size, head) + body


async def talk(url: str, sent: bytes, *, seconds: float = 5.0, half_close: bool = False) -> bytes:
    """Send raw bytes; return all that comes back until the server closes or time is up."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        writer.write(sent)
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(seconds):
            while chunk := await reader.read(65536):
                received += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return received
