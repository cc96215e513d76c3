"""Answers that are cut after each of their bytes: the client sees a whole answer, or an explicit
end; never a part as if it were whole, never two answers, and never a hang.

FED_TEST_CUT_STEP cuts at every so many bytes (1 = at each); the default looks at each byte of the
answer once, with a reset or with a polite end by turns.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from router.probe import ProbeTimes
from router.upstream import http
from tests.fakes.fault_proxy import BLACK_HOLE, PASS, Fault, FaultProxy, fault_proxy
from tests.router.fakes import (
    RouterUnderTest,
    eventually,
    forget_failures,
    gateways,
    router_for,
)

STEP = int(os.environ.get("FED_TEST_CUT_STEP", "1"))
PATIENCE_S = 10.0


def event(by: str, number: int) -> bytes:
    return b'data: {"choices": [{"index": 0, "text": "%d by %s"}]}\n\n' % (number, by.encode())


def streamed(by: str) -> bytes:
    """A stream of two events, in chunks as servers write them."""
    pieces = [event(by, 1), event(by, 2) + b"data: [DONE]\n\n"]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    return head + b"x-fed-load: 1\r\n\r\n" + chunks + b"0\r\n\r\n"


def whole(by: str) -> bytes:
    """An answer of known length."""
    body = json.dumps({"by": by, "more": "x" * 50}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    return head % len(body) + b"x-fed-load: 1\r\n\r\n" + body


class ByteGateway:
    """Answers each request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                self.asked += 1
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # also when the loop ends: asyncio would complain of a handler that was cancelled
        finally:
            writer.close()


class Cutting:
    """A router before a cluster whose way can be cut, and one that is well."""

    def __init__(
        self, router: RouterUnderTest, proxy: FaultProxy, cut: ByteGateway, well: ByteGateway
    ) -> None:
        self.router, self.proxy, self.cut, self.well = router, proxy, cut, well

    async def ask(self, path: str, body: bytes, after: int, *, politely: bool) -> tuple[int, bytes]:
        """Ask, with the answer of the first cluster cut after so many bytes; status 0 = the
        connection broke before the end of the answer."""
        await self.proxy.become(Fault(refuse=True))  # no connection is left
        await self.proxy.become(Fault(cut_after=after, politely=politely))
        signals = self.router.state.signals
        forget_failures(signals)
        for cluster, rtt_ms in (("eu-1", 1.0), ("us-1", 500.0)):
            signals.probed(cluster, rtt_ms, "", 0.0)
        self.cut.asked = self.well.asked = 0
        got = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                async with self.router.session.post(self.router.url + path, data=body) as answer:
                    async for piece in answer.content.iter_any():
                        got += piece
                    return answer.status, got
            except aiohttp.ClientError:
                return 0, got


@asynccontextmanager
async def cutting(cut: bytes, well: bytes) -> AsyncIterator[Cutting]:
    async with AsyncExitStack() as stack:
        urls, made = {}, {}
        for name, answer in (("eu-1", cut), ("us-1", well)):
            made[name] = gateway = ByteGateway(answer)
            server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            urls[name] = server.sockets[0].getsockname()
        proxy = await stack.enter_async_context(fault_proxy(*urls["eu-1"]))
        urls["eu-1"] = ("127.0.0.1", proxy.port)
        urls = {name: f"http://{host}:{port}" for name, (host, port) in urls.items()}
        router = await stack.enter_async_context(router_for(urls))
        yield Cutting(router, proxy, made["eu-1"], made["us-1"])


async def test_a_stream_that_is_cut_at_any_byte_ends_explicitly() -> None:
    ours, theirs = streamed("eu"), streamed("us")
    replaced = [event("us", 1), event("us", 2), b"data: [DONE]\n\n"]
    kinds = {"replaced": 0, "ended": 0}
    body = b'{"model": "poet", "prompt": "p", "stream": true}'
    async with cutting(ours, theirs) as c:
        for after in range(0, len(ours), STEP):
            status, got = await c.ask("/v1/completions", body, after, politely=bool(after % 2))
            assert status == 200, (after, got)
            assert c.cut.asked <= 1
            events = [one + b"\n\n" for one in got.split(b"\n\n")[:-1]]
            if c.well.asked:
                assert events == replaced, (after, got)
                kinds["replaced"] += 1
                continue
            told = json.loads(events[-1].removeprefix(b"data: "))
            assert told["error"]["code"] == "stream_broken", (after, got)
            before = b"".join(events[:-1])
            assert (event("eu", 1) + event("eu", 2) + b"data: [DONE]\n\n").startswith(before)
            assert got.endswith(events[-1])
            kinds["ended"] += 1
        assert kinds["ended"] > 50 / STEP
        assert kinds["replaced"] > 50 / STEP
        status, got = await c.ask("/v1/completions", body, len(ours) + 1, politely=False)
        assert (status, got) == (200, event("eu", 1) + event("eu", 2) + b"data: [DONE]\n\n")
        assert c.router.state.signals.in_flight("eu-1") == 0
        assert c.router.proxy.shared().admission.in_flight == 0


@pytest.mark.parametrize("path", ["/v2/models/digits/infer", "/v2/models/poet/generate"])
async def test_a_small_answer_that_is_cut_at_any_byte_is_replaced(path: str) -> None:
    ours, theirs = whole("eu"), whole("us")
    async with cutting(ours, theirs) as c:
        asked = 0
        for after in range(0, len(ours), STEP):
            status, got = await c.ask(path, b"{}", after, politely=bool(after % 2))
            assert (status, json.loads(got)["by"]) == (200, "us"), (after, got)
            assert c.cut.asked <= c.well.asked == 1  # a connection may be lost before it is asked
            asked += c.cut.asked
        assert asked > 0.8 * len(ours) / STEP
        status, got = await c.ask(path, b"{}", len(ours) + 1, politely=False)
        assert json.loads(got)["by"] == "eu"
        assert c.router.state.signals.in_flight("eu-1") == 0


async def test_a_large_answer_that_is_cut_breaks_off() -> None:
    body = bytes(200_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n"
    ours = head % len(body) + b"x-fed-load: 1\r\n\r\n" + body
    async with cutting(ours, whole("us")) as c:
        for after in (len(ours) - len(body) + 100, 70_000, 150_000, len(ours) - 1):
            status, got = await c.ask("/v2/models/digits/infer", b"{}", after, politely=True)
            assert status == 0 or b'"by": "us"' in got
            assert len(got) < len(body)


@pytest.mark.parametrize("heals", [False, True])
async def test_a_stream_whose_cluster_vanishes_ends_unless_it_goes_on(
    heals: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster is ejected by probes; its streams then have a moment to show that they live."""
    monkeypatch.setattr(http, "SIGN_OF_LIFE_S", 0.5)
    times = ProbeTimes(interval_s=0.1, again_s=0.05, patience_s=0.1)
    async with gateways("eu-1") as fakes:
        there = int(fakes["eu-1"].url.rpartition(":")[2])
        async with (
            fault_proxy("127.0.0.1", there) as proxy,
            router_for({"eu-1": f"http://127.0.0.1:{proxy.port}"}, times=times) as router,
        ):
            body = b'{"model": "poet", "prompt": "p", "stream": true}'
            async with (
                asyncio.timeout(PATIENCE_S),
                router.session.post(router.url + "/v1/completions", data=body) as answer,
            ):
                got = await answer.content.readuntil(b"\n\n")
                await proxy.become(BLACK_HOLE)
                await eventually(lambda: not router.state.health()["eu-1"][1])
                fakes["eu-1"].more.set()
                if heals:
                    await proxy.become(PASS)
                got += await answer.content.read()
        assert b"first" in got
        assert (b"[DONE]" in got, b"stream_broken" in got) == (heals, not heals)
