import asyncio
import contextlib
import logging
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from federation.contract.errors import Invalid
from federation.relay.connections import (
    ConnectionLimits,
    Connections,
    GuardedRunner,
    _network_of,
    _networks,
    raise_file_limit,
)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = b"x" * (32 << 20)


async def answer(request: web.Request) -> web.StreamResponse:
    if request.path != "/big":
        return web.Response(text="hello")
    response = web.StreamResponse()
    await response.prepare(request)
    assert request.transport is not None
    request.transport.write(BIG)
    request.transport.close()  # with most of it unsent
    return response


@asynccontextmanager
async def guarded(**limits: object) -> AsyncIterator[tuple[Connections, int]]:
    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    connections = Connections(ConnectionLimits(**limits))  # type: ignore[arg-type]
    runner = GuardedRunner(app, connections=connections, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield connections, runner.addresses[0][1]
    finally:
        await runner.cleanup()
        while OPENED:
            writer = OPENED.pop()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


OPENED: list[asyncio.StreamWriter] = []


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    OPENED.append(writer)
    return reader, writer


async def asked(port: int) -> bytes:
    reader, writer = await opened(port)
    writer.write(GET)
    head = await reader.read(12)
    writer.close()
    return head


async def until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("limits", [{"total": 3}, {"per_address": 3}])
async def test_one_too_many_is_told_so_and_a_place_given_back_is_free_again(
    limits: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with guarded(**limits) as (connections, port):
        held = [await opened(port) for _ in range(3)]
        await until(lambda: len(connections) == 3)
        for _ in range(3):
            reader, writer = await opened(port)
            told = await reader.read()
            assert told.startswith(b"HTTP/1.1 503")
            assert b"Retry-After: 1\r\n" in told
            assert told.endswith(b'in a few seconds."}')
            writer.close()
        await until(lambda: len(connections) == 3)
        assert repr(connections).endswith("3 refused)")
        assert len(caplog.records) == 1  # a flood does not flood the log
        held.pop()[1].close()
        await until(lambda: len(connections) == 2)
        assert await asked(port) == b"HTTP/1.1 200"
        for _, writer in held:
            writer.close()
        await until(lambda: not len(connections))
        assert not connections._counts


async def test_a_proxy_that_is_trusted_has_no_ceiling_of_its_own_but_fills_the_house() -> None:
    limits = {"per_address": 1, "total": 4, "exempt": ("127.0.0.0/8",)}
    async with guarded(**limits) as (connections, port):
        held = [await opened(port) for _ in range(4)]
        await until(lambda: len(connections) == 4)
        assert await asked(port) == b"HTTP/1.1 503"
        for _, writer in held:
            writer.close()


async def test_what_we_closed_does_not_wait_for_a_client_that_never_reads() -> None:
    async with guarded(closing_s=0.3) as (connections, port):
        _, writer = await opened(port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET.replace(b"/ ", b"/big "))
        await until(lambda: len(connections) == 1)
        await until(lambda: not len(connections))
        assert connections.cut == 1
        writer.close()


@pytest.mark.parametrize(
    ("peername", "name"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (("::ffff:192.0.2.7", 5, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (("::1", 5, 0, 0), "::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        (("10.1.2.3", 5), ""),
        (("::ffff:10.1.2.3", 5, 0, 0), ""),
        (("nonsense", 5), ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_client_is_counted_by_the_network_that_it_owns(peername: object, name: str) -> None:
    assert _network_of(peername, _networks(["10.0.0.0/8"])) == name


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="not understood"):
        Connections(ConnectionLimits(exempt=("10.0.0.0/99",)))


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "granted", "raised"),
    [
        (1024, 20_000, 8192, 8192, 8448),
        (1024, 4096, 8192, 3840, 4096),
        (20_000, 20_000, 8192, 8192, None),
        (1024, resource.RLIM_INFINITY, 8192, 8192, 8448),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 8192, 8192, None),
    ],
)
def test_files_are_allowed_as_far_as_the_system_lets_us(
    monkeypatch: pytest.MonkeyPatch,
    soft: int,
    hard: int,
    wanted: int,
    granted: int,
    raised: int | None,
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: told.append(limits))
    assert raise_file_limit(wanted) == granted
    assert told == ([] if raised is None else [(raised, hard)])
