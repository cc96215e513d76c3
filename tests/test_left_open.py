import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests import left_open

ROOT = Path(__file__).resolve().parents[1]

LEAKY = """
import socket

def test_that_leaks():
    circle = [socket.socket()]
    circle.append(circle)

def test_that_does_not():
    pass
"""


async def _accepts(end: str, made: list[socket.socket], patch: pytest.MonkeyPatch) -> None:
    """Accept a client; before its connection has a transport, close the server or end the loop."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    accept = socket.socket.accept

    def accept_and_end(self: socket.socket) -> tuple[socket.socket, object]:
        sock, address = accept(self)
        made.append(sock)
        if end == "server":
            loop.call_soon(server.close)
        else:
            server.close()
            loop.stop()
            patch.setattr(socket.socket, "accept", lambda _: _raise_blocking())
        return sock, address

    patch.setattr(socket.socket, "accept", accept_and_end)
    with socket.create_connection(server.sockets[0].getsockname()):
        async with asyncio.timeout(10):
            while not made or server.sockets:
                await asyncio.sleep(0)
        await asyncio.sleep(0)


def _raise_blocking() -> None:
    raise BlockingIOError


@pytest.mark.parametrize("end", ["server", "loop"])
def test_a_client_that_comes_at_the_end_leaves_no_socket(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    ended = pytest.raises(RuntimeError) if end == "loop" else contextlib.nullcontext()
    with ended, asyncio.Runner() as runner:
        runner.run(_accepts(end, made, monkeypatch))
    assert [sock.fileno() for sock in made] == [-1]


async def _stops(context: ssl.SSLContext | None, made: list[socket.socket]) -> None:
    """Close a server while a client is connected, and has shaken no hands."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
    with socket.create_connection(server.sockets[0].getsockname()):
        async with asyncio.timeout(10):
            while not made or made[0].fileno() not in loop._transports:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
        server.close()


@pytest.mark.parametrize("context", [None, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)])
def test_a_client_of_a_server_that_was_closed_leaves_no_socket(
    context: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    accept = socket.socket.accept

    def accept_noted(self: socket.socket) -> tuple[socket.socket, object]:
        made.append((accepted := accept(self))[0])
        return accepted

    monkeypatch.setattr(socket.socket, "accept", accept_noted)
    with asyncio.Runner() as runner:
        runner.run(_stops(context, made))
    assert [sock.fileno() for sock in made] == [-1]


async def test_an_unread_answer_complains_until_its_session_is_closed() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with asyncio.timeout(10), server, aiohttp.ClientSession() as session:
        response = await session.get(f"http://{host}:{port}/")
        connection = response.connection
        assert connection is not None
        left_open.forget_closed()
        assert connection.protocol is not None
        await session.close()
        left_open.forget_closed()
        assert connection.protocol is None


async def test_others_are_served() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(2))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with asyncio.timeout(10), server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hi")
        assert await reader.read() == b"hi"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("collect", "blamed"), [("", "does_not"), ("each", "leaks")])
def test_a_module_that_leaks_fails(collect: str, blamed: str, tmp_path: Path) -> None:
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    (tmp_path / "test_next.py").write_text("def test_innocent():\n    pass\n")
    options = ["-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.left_open", *options, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "FED_TEST_COLLECT": collect, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 passed, 1 error" in done.stdout
    assert f"ERROR at teardown of test_that_{blamed}" in done.stdout
    assert "unclosed <socket.socket" in done.stdout
