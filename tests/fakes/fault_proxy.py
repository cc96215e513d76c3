"""A small TCP proxy on 127.0.0.1 whose way can fail: resets, black holes, delays, cuts.

Input: the address behind it, and a `Fault` that may be changed at any time. Output: a port; bytes
pass as they are (TLS, HTTP/1.1, HTTP/2), counted in `told_bytes`. A black hole keeps what it is
given: once it is healed, that arrives late, as it does when a network comes back.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_PIECE_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to connections. `delay_s` is added to each piece, each way; `bytes_per_s` bounds
    answers (0 = not); `cut_after` are the bytes of answers of one connection that pass before it is
    cut: by a reset, or by an end as if all were said (`politely`)."""

    refuse: bool = False  # new connections are reset
    swallow: bool = False  # nothing passes, and nothing ends
    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    cut_after: int | None = None
    politely: bool = False


PASS = Fault()
RESET = Fault(refuse=True)
BLACK_HOLE = Fault(swallow=True)


class FaultProxy:
    """One listening port, and one address behind it."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.port = 0  # known after start()
        self.taken = 0  # connections so far
        self.told_bytes = 0  # passed of answers so far
        self._fault = PASS
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._running: dict[asyncio.Task[None], set[asyncio.StreamWriter]] = {}

    def __repr__(self) -> str:
        return f"FaultProxy({self.port} to {self.target}, {self._fault}, {len(self._running)} open)"

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._running)

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and reset what is open."""
        if self._server is not None:
            self._server.close()
            await self._end_all()
            await self._server.wait_closed()
            self._server = None

    async def become(self, fault: Fault) -> None:
        """Change what happens from now on; RESET ends what is open at once."""
        self._fault = fault
        if fault.swallow:
            self._flows.clear()
        else:
            self._flows.set()
        if fault.refuse:
            await self._end_all()

    async def _end_all(self) -> None:
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.taken += 1
        self._running[task] = writers = {writer}
        try:
            await self._pass(reader, writers)
        except asyncio.CancelledError:
            pass  # reset from here: asyncio would complain of a handler that was cancelled
        finally:
            for each in writers:
                if not each.is_closing():
                    _reset(each)
            del self._running[task]

    async def _pass(self, reader: asyncio.StreamReader, writers: set[asyncio.StreamWriter]) -> None:
        (near,) = writers
        try:
            if self._fault.refuse:
                return
            await self._flows.wait()
            far_reader, far = await asyncio.open_connection(*self.target)
            writers.add(far)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far, back=False))
                group.create_task(self._pump(far_reader, near, back=True))
            for each in writers:
                each.close()
        except* OSError:
            pass  # an end went away, or a cut: the other one hears of it

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool
    ) -> None:
        passed = 0
        while data := await reader.read(_PIECE_BYTES):
            fault = self._fault
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            if back and fault.bytes_per_s:
                await asyncio.sleep(len(data) / fault.bytes_per_s)
            await self._flows.wait()
            left = len(data) if not back or fault.cut_after is None else fault.cut_after - passed
            writer.write(data[: max(left, 0)])
            await writer.drain()
            passed += len(data)
            if back:
                self.told_bytes += min(len(data), max(left, 0))
            if left <= len(data) and back and fault.cut_after is not None:
                if fault.politely:
                    writer.close()
                raise ConnectionAbortedError
        await self._flows.wait()
        if writer.can_write_eof():
            with contextlib.suppress(OSError):
                writer.write_eof()


@asynccontextmanager
async def fault_proxy(host: str, port: int) -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of an address."""
    proxy = FaultProxy((host, port))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() != -1:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
