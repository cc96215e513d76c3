"""Many slow clients, in a process of their own: `python -m tests.hostile.slow_clients PORT COUNT`.

Input: a router's port, how many clients, and a line on stdin when it is enough. Output: the line
`open` once all are connected; at the end one JSON object: for each kind, the seconds after which
the router ended each connection. A client that is cut comes back at once.
"""

import asyncio
import contextlib
import json
import resource
import socket
import sys
from collections.abc import Awaitable, Callable

HEAD = b"POST /v2/models/m/versions/1/infer HTTP/1.1\r\nHost: x\r\n"
BIG = b"POST /v2/models/big/versions/1/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
_DRIP_S = 1.0
_RAMP_S = 2.0  # in which all arrive: slow they are, not a stampede


async def idle(sock: socket.socket) -> None:
    """Say nothing."""
    await _until_cut(sock)


async def half_head(sock: socket.socket) -> None:
    """Send a head byte by byte, without end."""
    await _drip(sock, HEAD + b"X-Slow: " + b"a" * 4000)


async def silent_body(sock: socket.socket) -> None:
    """Promise a body and send nothing of it."""
    await _send(sock, HEAD + b"Content-Length: 100000\r\n\r\n")
    await _until_cut(sock)


async def slow_body(sock: socket.socket) -> None:
    """Promise a body and send it byte by byte."""
    await _send(sock, HEAD + b"Content-Length: 100000\r\n\r\n")
    await _drip(sock, b"x" * 100_000)


async def slow_reader(sock: socket.socket) -> None:
    """Ask for a large answer and take nothing of it."""
    await _send(sock, BIG)
    while not _is_reset(sock):
        await asyncio.sleep(0.2)


KINDS: dict[str, Callable[[socket.socket], Awaitable[None]]] = {
    kind.__name__: kind for kind in (idle, half_head, silent_body, slow_body, slow_reader)
}


def _is_reset(sock: socket.socket) -> bool:
    """Return whether the peer is gone, without reading: TCP_INFO's first byte is the state."""
    established = 1
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != established


async def _send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def _until_cut(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(sock, 4096):
        pass


async def _drip(sock: socket.socket, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    gone = loop.create_task(_until_cut(sock))
    try:
        for byte in data:
            await loop.sock_sendall(sock, bytes((byte,)))
            await asyncio.wait((gone,), timeout=_DRIP_S)
            if gone.done():
                return
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


class Crowd:
    """All clients of one run."""

    def __init__(self, port: int, count: int) -> None:
        self.lives: dict[str, list[float]] = {name: [] for name in KINDS}
        self._port = port
        self._count = count
        self._connected = 0
        self.all_open = asyncio.Event()

    async def client(self, number: int) -> None:
        """Be one client, again and again."""
        name = list(KINDS)[number % len(KINDS)]
        loop, first = asyncio.get_running_loop(), True
        await asyncio.sleep(number / self._count * _RAMP_S)
        while True:
            with socket.socket() as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await loop.sock_connect(sock, ("127.0.0.1", self._port))
                began = loop.time()
                if first:
                    first = False
                    self._connected += 1
                    if self._connected == self._count:
                        self.all_open.set()
                with contextlib.suppress(OSError):  # reset: cut, too
                    await KINDS[name](sock)
                self.lives[name].append(round(loop.time() - began, 2))


async def main(port: int, count: int) -> None:
    """Run the crowd until a line comes on stdin."""
    loop, crowd = asyncio.get_running_loop(), Crowd(port, count)
    tasks = [loop.create_task(crowd.client(number)) for number in range(count)]
    await crowd.all_open.wait()
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    faults = {repr(e) for e in ended if not isinstance(e, asyncio.CancelledError)}
    print(json.dumps({"lives": crowd.lives, "faults": sorted(faults)}), flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
