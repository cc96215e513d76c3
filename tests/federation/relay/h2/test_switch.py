"""The switch as a whole: many clients, broken frames, both event loops, nothing left behind."""

import asyncio
import random

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.relay.h2 import wire
from tests.federation.relay.h2.rig import CALL, block, call, message, rig

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("loop", LOOPS)
def test_many_clients_share_few_connections(loop: str) -> None:
    async def scenario() -> None:
        async with rig() as r:
            clients = [await r.client() for _ in range(20)]
            for client in clients:
                client.write(b"".join(call(i) for i in range(1, 21, 2)))
            for client in clients:
                for stream in range(1, 21, 2):
                    assert (await client.outcome(stream)).status == 0
            assert sum(len(place.peers) for place in r.places) <= 2
            await clients[0].until(lambda: r.quiet)
            assert r.switch.counts.calls == 200

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario())


@pytest.mark.parametrize("seed", range(3))
async def test_broken_frames_leave_nothing_behind(seed: int) -> None:
    """Secrets of one client never show at another, whatever a third one breaks."""
    dice = random.Random(seed)
    modes = ("ok", "refuse", "half", "close", "half-rst", "unavailable")
    async with rig(modes=("ok", "ok")) as r:
        for number in range(30):
            r.mode(dice.choice(modes))
            client = await r.client()
            secret = b"secret-%d-%d" % (seed, number)
            data = bytearray()
            for stream in range(1, 12, 2):
                said = block(b"/inference.GRPCInferenceService/ModelInfer", (b"x-secret", secret))
                data += wire.frame(wire.HEADERS, 4, stream, said)
                data += wire.frame(wire.DATA, 1, stream, message(size=dice.randrange(3000)))
            for _ in range(dice.randrange(4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            client.write(bytes(data))
            await asyncio.sleep(0.002)
            if dice.random() < 0.5:
                client.close()
        for client in r.clients:
            client.close()
        await r.clients[0].until(lambda: r.quiet)
        assert r.service.open_calls == 0
        seen = b"".join(f.payload for client in r.clients for f in client.frames)
        assert b"secret-" not in seen
        well = await r.client()
        r.mode("ok")
        well.write(CALL)
        assert (await well.outcome()).status == 0


@settings(max_examples=40)
@given(st.binary(max_size=400), st.integers(1, 60))
def test_whatever_comes_is_survived(data: bytes, cut: int) -> None:
    async def scenario() -> None:
        async with rig(modes=("ok",)) as r:
            client = await r.client()
            for i in range(0, len(data), cut):
                client.write(data[i : i + cut])
            client.close()
            well = await r.client()
            well.write(CALL)
            assert (await well.outcome()).status == 0
            await well.until(lambda: r.quiet)

    asyncio.run(scenario())


async def test_what_waits_for_nothing_is_closed_when_idle() -> None:
    async with rig() as r:
        client = await r.client()
        client.write(CALL)
        assert (await client.outcome()).status == 0
        now_s = r.switch.now() + r.switch.limits.idle_s + 1
        r.switch._sweep(now_s)
        r.switch.flush()
        await client.until(lambda: client.eof)
        await client.until(lambda: not r.switch.clients)
        assert r.places[0].frames(wire.GOAWAY)
