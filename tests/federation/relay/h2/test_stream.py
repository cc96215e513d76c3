"""One call: attempts, what is kept for them, ends. More in test_client and test_upstream."""

import struct

import pytest

from federation.relay.h2 import wire
from federation.relay.h2.message import name_fields
from federation.relay.h2.service import SwitchLimits
from tests.federation.relay.h2.rig import CALL, HEADERS, STREAM, block, call, message, rig


async def test_attempts_are_bounded() -> None:
    async with rig(modes=("close", "close")) as r:
        client = await r.client()
        client.write(CALL)
        assert (await client.outcome()).status == 14
        assert len(r.service.handlers[0].failures) == 3
        assert sum(len(place.bodies) for place in r.places) == 3


@pytest.mark.parametrize("cut", range(0, 60, 7))
async def test_an_answer_cut_anywhere_ends_with_a_status(cut: int) -> None:
    """Before its first byte it is answered elsewhere, after it the client is told."""
    async with rig(modes=("silent", "ok")) as r:
        client = await r.client()
        client.write(CALL)
        await client.until(lambda: bool(r.places[0].bodies))
        peer = r.places[0].peers[0]
        whole = peer.head(1, b"\x88" + block()[-40:]) + peer.data(1, b"\0\0\0\0\4abcd")
        peer.write(whole[:cut])
        await peer.writer.drain()
        peer.writer.close()
        outcome = await client.outcome()
        assert outcome.status in (0, 14), outcome
        assert len(r.service.handlers[0].endings) == 1


async def test_a_message_is_rewritten_on_its_way() -> None:
    async with rig(modes=("ok",)) as r:
        r.service.append = name_fields("ours", "1")
        client = await r.client()
        client.write(HEADERS)
        body = message(size=200_000)
        for i in range(0, len(body), 16_000):
            client.write(wire.frame(0, int(i + 16_000 >= len(body)), 1, body[i : i + 16_000]))
        assert (await client.outcome()).status == 0
        (sent,) = r.places[0].bodies
        assert sent[5:] == body[5:] + r.service.append
        assert int.from_bytes(sent[1:5], "big") == len(sent) - 5


async def test_a_stream_for_two_models_is_ended() -> None:
    async with rig(modes=("ok",)) as r:
        r.service.append = name_fields("ours", "1")
        client = await r.client()
        client.write(call(1, STREAM, message() + message(b"b")))
        outcome = await client.outcome()
        assert outcome.status == 3
        assert "names another" in outcome.message
        await client.until(lambda: r.quiet)


async def test_a_body_that_breaks_off_runs_nothing() -> None:
    async with rig(modes=("ok",)) as r:
        r.service.append = name_fields("ours", "1")
        client = await r.client()
        client.write(call(1, body=message()[:-3]))
        assert (await client.outcome()).status == 3
        await client.until(lambda: r.quiet)
        assert all(len(body) < len(message()) for body in r.places[0].bodies)


async def test_repr_tells_where_it_is() -> None:
    async with rig(modes=("silent",)) as r:
        client = await r.client()
        client.write(CALL)
        await client.until(lambda: bool(r.places[0].bodies))
        (stream,) = next(iter(r.switch.clients)).streams.values()
        assert repr(stream).startswith("Stream(1 to silent, asked, Flow(held=0")
        assert repr(r.switch).startswith("Switch(1 clients, 1 calls, Wheel(")
        assert repr(next(iter(r.switch.clients))) == "Client(open, 1 streams)"


async def test_where_there_is_no_memory_a_call_that_must_wait_is_ended() -> None:
    """One whose client takes nothing; another one, which need not be held, is answered."""
    limits = SwitchLimits(memory_bytes=3)
    async with rig(modes=("ok",), limits=limits) as r:
        slow = await r.client(settings=struct.pack(">HI", wire.INITIAL_WINDOW_SIZE, 0))
        slow.write(CALL)
        outcome = await slow.outcome()
        assert (outcome.status, "holds as much" in outcome.message) == (8, True)
        quick = await r.client()
        quick.write(CALL)
        assert (await quick.outcome()).status == 0
        await quick.until(lambda: r.quiet)
        assert r.switch.memory.held == 0
