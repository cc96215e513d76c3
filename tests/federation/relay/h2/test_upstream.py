"""Backends that refuse, break off or talk nonsense: what the client sees, what goes elsewhere."""

import asyncio
import struct

import pytest

from federation.relay.h2 import wire
from federation.relay.h2.service import SwitchLimits
from tests.federation.relay.h2.rig import (
    BIG_BYTES,
    CALL,
    HEADERS,
    STREAM,
    PlainDialler,
    block,
    call,
    message,
    rig,
)

MODES = {
    "one refuses": (("refuse", "ok"), 0),
    "all refuse": (("refuse", "refuse"), 14),
    "one closes before it answers": (("close", "ok"), 0),
    "all close": (("close", "close"), 14),
    "GOAWAY below our stream": (("goaway", "ok"), 0),
    "one says that it is unavailable": (("unavailable", "ok"), 0),
    "it closes inside the message": (("half", "half"), 14),
    "it resets inside the message": (("half-rst", "half-rst"), 13),
    "a dynamic reference in the answer": (("dynamic", "dynamic"), 14),
    "HTTP 503 without a status": (("http503", "http503"), 14),
    "a body before its head": (("no-head", "no-head"), 13),
    "no trailers": (("no-trailers", "no-trailers"), 2),
    "an answer with CONTINUATION": (("continued", "continued"), 0),
}


@pytest.mark.parametrize("case", MODES)
async def test_a_backend_misbehaves(case: str) -> None:
    modes, status = MODES[case]
    async with rig(modes=modes) as r:
        client = await r.client()
        client.write(CALL)
        outcome = await client.outcome()
        assert outcome.status == status, outcome
        await client.until(lambda: r.quiet)
        assert all(len(handler.endings) == 1 for handler in r.service.handlers)


async def test_a_backend_that_overruns_its_window_is_cut() -> None:
    async with rig(modes=("overrun", "overrun")) as r:
        client = await r.client(settings=struct.pack(">HI", 4, 0))
        client.write(CALL)
        assert (await client.outcome()).status == 13


async def test_a_dead_port_costs_an_attempt_and_no_call() -> None:
    async with rig() as r:
        assert r.places[0].server is not None
        r.places[0].server.close()
        await r.places[0].server.wait_closed()
        client = await r.client()
        client.write(b"".join(call(i) for i in range(1, 41, 2)))
        for stream in range(1, 41, 2):
            assert (await client.outcome(stream)).status == 0
        assert {f.kind.value for h in r.service.handlers for f in h.failures} == {"unreachable"}


async def test_a_deadline_ends_both_sides() -> None:
    async with rig(modes=("silent", "silent")) as r:
        client = await r.client()
        said = block(b"/inference.GRPCInferenceService/ModelInfer", (b"grpc-timeout", b"200m"))
        client.write(wire.frame(wire.HEADERS, 4, 1, said) + wire.frame(0, 1, 1, message()))
        assert (await client.outcome()).status == 4
        await client.until(lambda: bool(r.places[0].frames(wire.RST_STREAM)))
        assert r.places[0].frames(wire.RST_STREAM)[0].number == wire.Code.CANCEL


async def test_our_own_deadline_for_the_first_byte() -> None:
    async with rig(modes=("silent",)) as r:
        r.service.first_s = 0.1
        client = await r.client()
        client.write(CALL)
        assert (await client.outcome()).status == 4
        await client.until(lambda: r.quiet)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_client_that_leaves_stops_the_backend(how: str) -> None:
    async with rig(modes=("silent",)) as r:
        client = await r.client()
        client.write(CALL)
        await client.until(lambda: bool(r.places[0].bodies))
        if how == "reset":
            client.write(wire.reset(1, 8))
        else:
            client.close()
        async with asyncio.timeout(10):
            while not r.places[0].frames(wire.RST_STREAM):
                await asyncio.sleep(0.005)
        assert [h.endings for h in r.service.handlers] == [[None]]


async def test_calls_wait_where_streams_are_few() -> None:
    limits = SwitchLimits(connections=2, waiting=20)
    async with rig(modes=("silent",), limits=limits) as r:
        r.places[0].settings = struct.pack(">HI", 3, 2)
        client = await r.client()
        client.write(b"".join(call(i) for i in range(1, 61, 2)))
        backend = r.service.backends[0]
        await client.until(lambda: backend.running == 4)
        await client.until(lambda: r.switch.streams == 20)
        assert backend.waiting == 16
        refused = [(await client.outcome(i)).status for i in range(1, 61, 2) if client.over(i)]
        assert refused == [8] * 10  # what does not fit is told at once
        for peer in r.places[0].peers:
            peer.mode = "ok"
            for stream in list(peer.bodies):
                peer.answer(stream)
        for stream in range(1, 61, 2):
            await client.outcome(stream)
        await client.until(lambda: r.quiet)


# ---------------------------------------------------------------- slow readers


async def test_a_client_that_takes_nothing_holds_one_window() -> None:
    async with rig(modes=("big",)) as r:
        window = r.switch.limits.window
        slow = await r.client(settings=struct.pack(">HI", 4, 65_535))
        slow.write(CALL)
        await slow.until(lambda: len(slow.body(1)) == 65_535)
        peer = r.places[0].peers[0]
        await slow.until(lambda: peer.sent >= window)
        await asyncio.sleep(0.05)
        held = sum(s.answer.held for c in r.switch.clients for s in c.streams.values())
        assert held <= window
        assert peer.sent <= window + 65_535
        fast = await r.client()
        fast.write(wire.window_update(0, BIG_BYTES) + CALL + wire.window_update(1, BIG_BYTES))
        assert (await fast.outcome()).status == 0  # on the same connection to the backend
        assert len(fast.body(1)) == BIG_BYTES

        def grant() -> bool:
            slow.write(wire.window_update(0, 30_000) + wire.window_update(1, 30_000))
            return slow.over(1)

        await slow.until(grant, within_s=30)
        assert (await slow.outcome()).status == 0
        assert len(slow.body(1)) == BIG_BYTES


async def test_a_backend_that_takes_nothing_holds_one_window() -> None:
    async with rig(modes=("ok",)) as r:
        r.places[0].grants = False
        window = r.switch.limits.window
        client = await r.client()
        body, sent = message(size=BIG_BYTES), 0
        client.write(HEADERS)

        def granted() -> int:
            return window + sum(f.number for f in client.of(wire.WINDOW_UPDATE, 1))

        def push() -> bool:
            nonlocal sent
            while sent < len(body) and (size := min(16_384, granted() - sent, len(body) - sent)):
                client.write(wire.frame(0, 0, 1, body[sent : sent + size]))
                sent += size
            return len(r.places[0].bodies[0]) >= 65_535 if r.places[0].bodies else False

        await client.until(push)
        await asyncio.sleep(0.05)
        push()
        stream = next(iter(next(iter(r.switch.clients)).streams.values()))
        assert sent <= window + 65_536
        assert stream.request.held <= window
        client.write(wire.frame(0, 0, 1, bytes(16_384)) * 80)  # more than it may
        assert (await client.outcome()).reset == 3


async def test_what_is_not_kept_is_not_sent_again() -> None:
    async with rig(modes=("close", "ok")) as r:
        r.service.keep_bytes = 10
        client = await r.client()
        client.write(CALL)
        assert (await client.outcome()).status == 14
        assert not r.places[1].bodies


async def test_a_large_request_is_sent_again_whole() -> None:
    async with rig(modes=("close", "ok")) as r:
        client = await r.client()
        body = message(size=600_000)
        pieces = [body[i : i + 16_000] for i in range(0, len(body), 16_000)]
        client.write(HEADERS)
        for i, piece in enumerate(pieces):
            client.write(wire.frame(0, int(i == len(pieces) - 1), 1, piece))
        assert (await client.outcome()).status == 0
        assert r.places[1].bodies == [body]


async def test_a_client_that_does_not_take_its_answer_is_given_up() -> None:
    async with rig(modes=("big",), limits=SwitchLimits(stall_s=0.1)) as r:
        client = await r.client(settings=struct.pack(">HI", 4, 10))
        client.write(CALL)
        assert (await client.outcome()).reset == 8
        await client.until(lambda: r.quiet)


async def test_waiting_attempts_can_be_given_up() -> None:
    async with rig(modes=("silent", "ok")) as r:
        client = await r.client()
        client.write(CALL)
        await client.until(lambda: bool(r.places[0].bodies))
        assert r.service.backends[0].give_up("it stopped answering probes") == 1
        assert (await client.outcome()).status == 0
        assert len(r.places[1].bodies) == 1


async def test_connections_that_may_not_be_used_any_more_are_left() -> None:
    async with rig(modes=("ok",)) as r:
        client = await r.client()
        client.write(CALL)
        assert (await client.outcome()).status == 0
        backend = r.service.backends[0]
        dialler = backend.dialler
        assert isinstance(dialler, PlainDialler)
        dialler.bad = list(dialler.made)
        await asyncio.sleep(0.15)
        client.write(call(3))
        assert (await client.outcome(3)).status == 0
        await client.until(lambda: bool(r.places[0].frames(wire.GOAWAY)))
        assert len(r.places[0].peers) == 2
        dialler.good = False
        await asyncio.sleep(0.15)
        client.write(call(5))
        assert (await client.outcome(5)).status == 14
        assert len(r.places[0].peers) <= 6


async def test_goaway_lets_what_was_begun_end() -> None:
    async with rig(modes=("silent", "ok")) as r:
        client = await r.client()
        client.write(call(1, STREAM))
        await client.until(lambda: bool(r.places[0].bodies))
        peer = r.places[0].peers[0]
        peer.write(wire.goaway(1, 0))
        r.places[0].mode = "ok"
        await client.until(lambda: r.switch.streams == 1)
        client.write(call(3))
        assert (await client.outcome(3)).status == 0
        assert len(r.places[0].peers) == 2
        peer.mode = "ok"
        peer.answer(1)
        assert (await client.outcome(1)).status == 0
        await client.until(lambda: peer.eof)
