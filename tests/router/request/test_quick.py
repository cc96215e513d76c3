"""The short way and the usual one: the same bytes to the gateway, the same answer, the same counts.

Each case goes through two routers that differ in nothing but that one has no short way.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from federation.contract.access import Access, Tenant
from federation.contract.rollout import CanaryRoute
from router.policy import table as tables
from router.policy.signals import Ending
from tests.router.access_world import KEYS, access
from tests.router.fakes import RouterUnderTest, eventually, router_for

Reply = Callable[[asyncio.StreamWriter, int], Awaitable[None]]
HEAD = (
    b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
)
BODY = b'{"inputs": []}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-fed-load: 4\r\nServer: e\r\n"
DIFFERS = re.compile(
    rb"dur=[0-9.]+|Date: [^\r]*|x-request-id: [0-9a-f]{32}|-(?:reset|remaining)-[^\r]*"
)
LIMITED = replace(access(), tenants=(Tenant(name="acme", requests_per_minute=600_000),))


@dataclass
class Gateway:
    """Reads requests of any bytes and answers as `reply` does; notes what it was sent."""

    reply: Reply
    seen: list[bytes] = field(default_factory=list)
    port: int = 0
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(found[1]) if found else 0)
                self.seen.append(DIFFERS.sub(b"", head.replace(b"%d" % self.port, b"P")) + body)
                await self.reply(writer, len(self.seen))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def lane(
    reply: Reply, *, quick: bool, access: Access | None = None
) -> AsyncIterator[tuple[RouterUnderTest, Gateway]]:
    """One router with one gateway, with the short way or without."""
    gateway = Gateway(reply)
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    gateway.port = server.sockets[0].getsockname()[1]
    urls = {"eu-1": f"http://127.0.0.1:{gateway.port}"}
    async with router_for(urls, access=access) as router:
        if not quick:
            router.application.quick = None
        yield router, gateway
    await eventually(lambda: not gateway.open)
    server.close()


class Client:
    """A connection on which one request follows the other."""

    def __init__(self, url: str) -> None:
        self.host, self.port = url.removeprefix("http://").split(":")

    async def __aenter__(self) -> "Client":
        self.reader, self.writer = await asyncio.open_connection(self.host, int(self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def ask(self, lines: bytes = b"", body: bytes = BODY) -> bytes:
        self.writer.write(HEAD % (lines, len(body)) + body)
        return await self.answer()

    async def answer(self) -> bytes:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"(?i)content-length: (\d+)", head)
            if found is None:
                return head + await self.reader.readuntil(b"0\r\n\r\n")
            return head + await self.reader.readexactly(int(found[1]))


async def good(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(GOOD + b"Content-Length: 2\r\n\r\n{}")


async def in_two(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(GOOD + b"Content-Length: 4\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.write(b'"a"}'[:3])


async def chunked(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(GOOD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")


async def refused(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"HTTP/1.1 503 No\r\nx-fed-refused: engine-down\r\nContent-Length: 0\r\n\r\n")


async def bad_request(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\nx-fed-load: 1\r\nContent-Length: 2\r\n\r\n{}")


async def nonsense(writer: asyncio.StreamWriter, number: int) -> None:
    if number > 1:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}")
    else:
        await good(writer, number)


async def breaks(writer: asyncio.StreamWriter, number: int) -> None:
    if number > 2:
        writer.transport.abort()
    else:
        await good(writer, number)


async def limited(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(
        GOOD + b"x-ratelimit-limit-requests: 1\r\nServer-Timing: e\r\nContent-Length: 0\r\n\r\n"
    )


async def closing(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(GOOD + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
    writer.close()


REPLIES = (good, in_two, chunked, refused, bad_request, nonsense, breaks, limited, closing)
ASKED = (
    *(b"", b"", b"X-Request-Id: one\r\n", b"X-Request-Id: two\r\n", b"X-Request-Id: bad id\r\n"),
    *(b"traceparent: 00-a\r\nx-request-id: a\r\n", b"traceparent: 00-b\r\nx-request-id: b\r\n"),
    *(b"x-fed-deadline-ms: 5000\r\n", b"x-fed-session: s\r\n", b"X-Federation-Replay: never\r\n"),
    *(b"Cookie: c\r\nx-fed-model: evil\r\n", b"Accept: a\r\nAccept: b\r\n"),
)
BODIES = (
    BODY,
    b"",
    b'{"parameters": {"sequence_id": 7}}',
    b'{"parameters": {"timeout": 900000}}',
    b"x" * 70_000,
    b"\x00" * 300_000,
)


async def run(reply: Reply, *, quick: bool) -> tuple[object, ...]:
    """Return all that the outside sees of the cases."""
    answers = []
    key = b"Authorization: Bearer %b\r\n" % KEYS["acme"].encode()
    async with lane(reply, quick=quick, access=LIMITED) as (router, gateway):
        async with Client(router.url) as client:
            answers += [await client.ask(key + lines) for lines in ASKED]
            answers += [await client.ask(key, body) for body in BODIES]
            client.writer.write(3 * (HEAD % (key, len(BODY)) + BODY))  # pipelined
            answers += [await client.answer() for _ in range(3)]
        await eventually(lambda: not router.state.signals.in_flight("eu-1"))
        assert repr(router.proxy._admission).startswith("Admission(0/")
        assert router.proxy._admission.kept_bytes == 0
        page = router.metrics.page().decode()
        counts = sorted(
            line
            for line in page.splitlines()
            if line.startswith("fed_router_")
            and "_bucket" not in line
            and "_sum" not in line
            and "age" not in line
            and "rtt" not in line
            and "created" not in line
        )
        told = [DIFFERS.sub(b"", answer) for answer in answers]
        return told, gateway.seen, counts, router.state.requests_total


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.__name__)
async def test_both_ways_show_the_same_to_everybody(reply: Reply) -> None:
    short, usual = [await run(reply, quick=quick) for quick in (True, False)]
    for mine, theirs in zip(short, usual, strict=True):
        assert mine == theirs


async def test_the_short_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the comparison above compares nothing."""
    async with lane(good, quick=True) as (router, _):
        usual: list[object] = []
        infer = router.proxy._infer

        def noted(*args: Any) -> Any:
            usual.append(args)
            return infer(*args)

        monkeypatch.setattr(router.proxy, "_infer", noted)
        async with Client(router.url) as client:
            for _ in range(5):
                assert b"x-fed-attempts: 1" in await client.ask()
        assert len(usual) == 1  # there was no connection yet


async def test_a_client_that_leaves_gives_everything_back() -> None:
    async def silent(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 1:
            await good(writer, number)

    async with lane(silent, quick=True) as (router, gateway):
        async with Client(router.url) as client:
            await client.ask()
            client.writer.write(HEAD % (b"", len(BODY)) + BODY)
            await eventually(lambda: len(gateway.seen) == 2)
            assert router.state.signals.in_flight("eu-1") == 1
        await eventually(lambda: not router.state.signals.in_flight("eu-1"))
        await eventually(lambda: router.proxy._admission.in_flight == 0)
        page = router.metrics.page().decode()
        assert f'fed_router_attempts_total{{reason="{Ending.ABANDONED}"}} 1.0' in page
        assert 'code_class="4xx"' in page


async def test_who_is_given_up_is_answered_elsewhere_or_told() -> None:
    async def silent(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 1:
            await good(writer, number)

    async with lane(silent, quick=True) as (router, gateway), Client(router.url) as client:
        await client.ask()
        client.writer.write(HEAD % (b"", len(BODY)) + BODY)
        await eventually(lambda: len(gateway.seen) == 2)
        assert router.upstreams.give_up("eu-1") == 1
        answer = await client.answer()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"it stopped answering probes" in answer


async def between_versions(*, quick: bool, percent: float, count: int) -> tuple[Any, ...]:
    """Ask a model that is between two versions; return the answers, what the gateway saw, requests
    by version, and how many are to be compared."""
    canary = CanaryRoute(rollout="ro", version=1, weights={"eu": percent}, shadow_percent=50.0)
    async with lane(good, quick=quick) as (router, gateway), Client(router.url) as client:
        before = router.state.require_table().snapshot
        routes = tuple(
            replace(route, canary=canary) if route.name == "digits" else route
            for route in before.models
        )
        router.state.swap(tables.build(replace(before, version=2, models=routes)))
        answers = [DIFFERS.sub(b"", await client.ask()) for _ in range(count)]
        _, reported = router.state.counting.report()
        versions = {c.version: sum(c.requests) for each in reported for c in each}
        shadowed = router.proxy.shadow._pairs.qsize()
        return answers, gateway.seen, versions, shadowed


async def test_between_two_versions_both_ways_are_the_same() -> None:
    short, usual = [await between_versions(quick=q, percent=100.0, count=8) for q in (True, False)]
    assert b"x-fed-canary: ro\r\n" in short[0][7]
    assert short[:3] == usual[:3]
    assert short[2] == {1: 8}
    assert short[3]


async def test_between_two_versions_requests_are_shared_out() -> None:
    _, seen, versions, _ = await between_versions(quick=True, percent=30.0, count=200)
    assert versions[1] + versions[2] == len(seen) == 200
    assert 30 < versions[1] < 95


async def test_limits_hold_on_the_short_way() -> None:
    tenants = (Tenant(name="acme", requests_per_minute=60),)
    key = b"Authorization: Bearer %b\r\n" % KEYS["acme"].encode()
    few = replace(access(), tenants=tenants)
    async with lane(good, quick=True, access=few) as (router, gateway):
        async with Client(router.url) as client:
            answers = [await client.ask(key) for _ in range(12)]
        assert [answer[9:12] for answer in answers] == [b"200"] * 10 + [b"429"] * 2
        assert b"x-ratelimit-remaining-requests: 9\r\n" in answers[0]
        assert b"x-ratelimit-remaining-requests: 0\r\n" in answers[9]
        assert len(gateway.seen) == 10
        async with Client(router.url) as wrong:
            assert (await wrong.ask(b"Authorization: Bearer fed_key_x\r\n"))[9:12] == b"401"
