"""A router as a process, an engine for it, and a crowd of slow clients: for tests of load.

Input: settings of the router, and what the engine answers. Output: addresses, the router's memory,
latencies of honest clients.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from federation.contract.types import ModelRoute
from tests.engines.ports import free_block
from tests.router.fakes import make_snapshot

ROUTES = (ModelRoute(name="m", default_version=1), ModelRoute(name="big", default_version=1))
BIG_BYTES = 4 << 20
_PIECE = b" " * 65536
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-fed-load: 1\r\n"
    b"Content-Length: %d\r\n\r\n"
)
ASK = b"POST /v2/models/m/versions/1/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True)
class RunningRouter:
    """A router process."""

    port: int
    process: psutil.Process

    def rss_bytes(self) -> int:
        """Return the memory that it occupies now."""
        return int(self.process.memory_info().rss)


class Engine(asyncio.Protocol):
    """Answers each request in its own packet at once; `big` models with many bytes."""

    def __init__(self) -> None:
        self._left = b""
        self._owed = 0
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._left += data
        while b"\r\n\r\n" in self._left:
            head, _, rest = self._left.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if len(rest) < length:
                return
            self._left = rest[length:]
            if b"/big/" in head:
                self._owed = BIG_BYTES
                self._transport.write(_HEAD % BIG_BYTES)
                self._pay()
            else:
                self._transport.write(_HEAD % 2 + b"{}")

    def pause_writing(self) -> None:
        """Wait for the reader."""
        self._full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._full = False
        self._pay()

    def _pay(self) -> None:
        while self._owed and not self._full:
            self._owed -= len(_PIECE)
            self._transport.write(_PIECE)


@asynccontextmanager
async def engine() -> AsyncIterator[str]:
    """Run an engine; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    # An engine has a machine of its own: here its buffers would fill the kernel's memory for TCP.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    server = await asyncio.get_running_loop().create_server(Engine, sock=listener)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def router(url: str, folder: Path, *argv: str) -> AsyncIterator[RunningRouter]:
    """Run a router as a process before the engine at `url`."""
    table = folder / "table.json"
    table.write_bytes(msgspec.json.encode(make_snapshot({"eu-1": url}, routes=ROUTES)))
    public = free_block(2)
    admin = public + 1
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FED_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router", "--table", str(table), "--allow-anonymous"),
        *("--listen", f"127.0.0.1:{public}", "--admin-listen", f"127.0.0.1:{admin}", *argv),
        env=environ,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while not await _is_ready(public):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield RunningRouter(public, psutil.Process(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _is_ready(port: int) -> bool:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        return (await ask_once(port)).startswith(b"HTTP/1.1 200")
    return False


async def ask_once(port: int, raw: bytes = ASK) -> bytes:
    """Return the head of the answer to one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def latencies(
    port: int, seconds: float, *, clients: int = 8, pause_s: float = 0.03
) -> list[float]:
    """Return how long honest clients waited, in seconds: each asks, pauses, and asks again."""
    loop = asyncio.get_running_loop()
    waited: list[float] = []
    end = loop.time() + seconds

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(pause_s * number / clients)
        while loop.time() < end:
            began = loop.time()
            writer.write(ASK)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            assert head.startswith(b"HTTP/1.1 200"), head
            waited.append(loop.time() - began)
            await asyncio.sleep(pause_s)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*map(one, range(clients)))
    return waited


def p99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(values)[int(len(values) * 0.99)]


class Crowd:
    """A running process of slow clients."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def disperse(self) -> dict[str, list[float]]:
        """End all; return for each kind after how many seconds the router cut its clients."""
        out, _ = await self._process.communicate(b"\n")
        told: dict[str, Any] = json.loads(out)
        assert told["faults"] == []
        return dict(told["lives"])


@asynccontextmanager
async def crowd(port: int, count: int) -> AsyncIterator[Crowd]:
    """Run `count` slow clients; they are all connected when the context begins."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.hostile.slow_clients", str(port), str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"open\n"
        yield Crowd(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
