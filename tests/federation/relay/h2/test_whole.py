"""Calls that come whole, and answers: they end as those do that come in pieces."""

import struct

import pytest

from federation.relay.h2 import wire
from federation.relay.h2.message import name_fields
from tests.federation.relay.h2.rig import CALL, HEADERS, LIVE, call, message, rig


def whole(stream: int) -> bytes:
    """The answer that `peers.Upstream` gives, in one piece."""
    return b"\0\0\0\0\4" + struct.pack(">I", len(message()))


@pytest.mark.parametrize("cut", [*range(1, len(HEADERS) + 12, 9), len(CALL) - 1, len(CALL)])
async def test_however_a_call_is_cut_it_ends_the_same(cut: int) -> None:
    async with rig(modes=("ok",)) as r:
        client = await r.client()
        client.write(CALL[:cut])
        await client.writer.drain()
        client.write(CALL[cut:] + call(3)[: cut // 2])
        assert (await client.outcome()).status == 0
        assert client.body(1) == whole(1)
        client.write(call(3)[cut // 2 :])
        assert (await client.outcome(3)).status == 0
        assert r.places[0].bodies == [message(), message()]
        await client.until(lambda: r.quiet)


async def test_many_at_once() -> None:
    async with rig() as r:
        client = await r.client()
        numbers = range(1, 101, 2)
        client.write(b"".join(call(number) for number in numbers))
        for number in numbers:
            assert (await client.outcome(number)).status == 0
            assert client.body(number) == whole(number)
        assert r.switch.counts.calls == len(numbers)
        await client.until(lambda: r.quiet)


async def test_an_answer_for_which_there_is_no_window_waits_for_it() -> None:
    async with rig(modes=("ok",)) as r:
        small = struct.pack(">HI", wire.INITIAL_WINDOW_SIZE, 5)
        client = await r.client(settings=small)
        client.write(CALL)
        await client.until(lambda: len(client.body(1)) == 5)
        assert not client.over(1)
        client.write(wire.window_update(1, 4))
        assert (await client.outcome()).status == 0
        assert client.body(1) == whole(1)


async def test_a_window_may_be_opened_between_head_and_body() -> None:
    """So does grpcio. Some window, none, and more than there can be."""
    body = CALL[len(HEADERS) :]
    for more, status, reset in ((4, 0, None), (0, None, 1), (wire.MAX_WINDOW, None, 3)):
        async with rig(modes=("ok",)) as r:
            client = await r.client(settings=struct.pack(">HI", wire.INITIAL_WINDOW_SIZE, 5))
            client.write(HEADERS + wire.window_update(1, more) + body)
            outcome = await client.outcome()
            assert (outcome.status, outcome.reset) == (status, reset)
            assert client.body(1) == (whole(1) if status == 0 else b"")
            await client.until(lambda: r.quiet)


async def test_a_window_that_grows_before_the_answer_counts() -> None:
    async with rig(modes=("silent",)) as r:
        client = await r.client(settings=struct.pack(">HI", wire.INITIAL_WINDOW_SIZE, 2))
        client.write(CALL + wire.window_update(1, 3))
        await client.until(lambda: bool(r.places[0].bodies))
        larger = struct.pack(">HI", wire.INITIAL_WINDOW_SIZE, 6)
        client.write(wire.frame(wire.SETTINGS, 0, 0, larger))
        await client.until(lambda: len(client.of(wire.SETTINGS)) == 3)
        peer = r.places[0].peers[0]
        peer.mode = "ok"
        peer.answer(1)
        assert (await client.outcome()).status == 0
        assert client.body(1) == whole(1)


@pytest.mark.parametrize("mode", ["close", "refuse", "goaway", "unavailable", "http503"])
async def test_one_that_was_sent_whole_is_sent_again_whole(mode: str) -> None:
    async with rig(modes=(mode, "ok")) as r:
        client = await r.client()
        client.write(CALL)
        assert (await client.outcome()).status == 0
        assert [body for place in r.places for body in place.bodies] == [message(), message()]
        assert r.service.handlers[0].endings == [0]
        await client.until(lambda: r.quiet)


async def test_both_ways_are_rewritten() -> None:
    async with rig(modes=("ok",)) as r:
        r.service.append = name_fields("ours", "1")
        client = await r.client()
        client.write(CALL)
        assert (await client.outcome()).status == 0
        assert r.places[0].bodies[0][5:] == message()[5:] + r.service.append


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        (call(2), "GOAWAY 1 a stream of a client has an even number"),
        (CALL + CALL, "GOAWAY 5 HEADERS after the end of a request"),
        (call(0), "GOAWAY 1 HEADERS on stream 0"),
    ],
)
async def test_what_breaks_the_rules_is_found_all_the_same(said: bytes, ends: str) -> None:
    async with rig(modes=("silent",)) as r:
        client = await r.client()
        client.write(said)
        assert ends in str(await client.outcome())


async def test_a_reserved_bit_says_nothing() -> None:
    async with rig(modes=("ok",)) as r:
        client = await r.client()
        client.write(CALL[:5] + b"\x80" + CALL[6:])
        assert (await client.outcome()).status == 0


async def test_own_answers_and_refusals() -> None:
    async with rig(modes=("ok",)) as r:
        client = await r.client()
        client.write(call(1, LIVE, message()) + call(3, body=message(b"nope")) + call(5, b"/a/B"))
        assert [(await client.outcome(n)).status for n in (1, 3, 5)] == [0, 5, 12]
        await client.until(lambda: r.quiet)
