"""Two attempts of one late call: one answer, and the other attempt is reset."""

import asyncio

import pytest

from federation.relay.h2 import rival, wire
from tests.federation.relay.h2.peers import RawClient
from tests.federation.relay.h2.rig import CALL, STREAM, Rig, block, call, message, rig


async def late_call(r: Rig, data: bytes = CALL) -> RawClient:
    """A client whose call both places have."""
    r.service.late = True
    client = await r.client()
    client.write(data)
    await client.until(lambda: len(r.places[0].bodies) == len(r.places[1].bodies) == 1)
    return client


def resets(r: Rig, place: int) -> list[int]:
    return [frame.number for frame in r.places[place].frames(wire.RST_STREAM)]


def answer(r: Rig, place: int, mode: str = "ok") -> None:
    peer = r.places[place].peers[0]
    peer.mode = mode
    peer.answer(1)


async def test_the_second_place_answers_first_and_the_first_is_told_to_stop() -> None:
    async with rig(modes=("silent", "ok")) as r:
        client = await late_call(r)
        assert (await client.outcome()).status == 0
        (handler,) = r.service.handlers
        await client.until(lambda: resets(r, 0) == [wire.Code.CANCEL])
        assert handler.story == ["sent", "won"]
        assert (handler.failures, [s is not None for s in handler.endings]) == ([], [True])
        assert r.places[0].bodies == r.places[1].bodies == [message()]
        await client.until(lambda: r.quiet)
        answer(r, 0)  # what comes too late reaches nobody
        await asyncio.sleep(0.05)
        assert len(client.of(wire.HEADERS, 1)) == 2
        assert r.switch.memory.held == 0


async def test_the_first_place_answers_first_after_all() -> None:
    async with rig(modes=("silent", "silent")) as r:
        client = await late_call(r)
        answer(r, 0)
        assert (await client.outcome()).status == 0
        await client.until(lambda: resets(r, 1) == [wire.Code.CANCEL])
        assert r.service.handlers[0].story == ["sent"]
        assert resets(r, 0) == []
        await client.until(lambda: r.quiet)


@pytest.mark.parametrize(("winner", "loser"), [(0, 1), (1, 0)])
async def test_an_answer_in_pieces_ends_the_other_attempt_as_it_begins(
    winner: int, loser: int
) -> None:
    async with rig(modes=("silent", "silent")) as r:
        client = await late_call(r)
        answer(r, winner, "big")
        await client.until(lambda: resets(r, loser) == [wire.Code.CANCEL])
        assert not client.over(1)
        await client.until(lambda: bool(client.body(1)))
        client.write(wire.reset(1, wire.Code.CANCEL))
        await client.until(lambda: r.quiet and resets(r, winner) == [wire.Code.CANCEL])


@pytest.mark.parametrize("mode", ["refuse", "unavailable", "http503", "no-head"])
async def test_a_second_place_that_fails_leaves_the_first_alone(mode: str) -> None:
    async with rig(modes=("silent", mode)) as r:
        client = await late_call(r)
        (handler,) = r.service.handlers
        await client.until(lambda: len(handler.story) == 2)
        assert handler.story[1].startswith("lost: ")
        answer(r, 0)
        assert (await client.outcome()).status == 0
        assert handler.failures == []
        await client.until(lambda: r.quiet)


@pytest.mark.parametrize("mode", ["refuse", "unavailable", "close", "http503"])
async def test_a_first_place_that_fails_leaves_the_call_to_the_second(mode: str) -> None:
    async with rig(modes=("silent", "silent")) as r:
        client = await late_call(r)
        (handler,) = r.service.handlers
        answer(r, 0, mode)
        await client.until(lambda: len(handler.story) == 2)
        assert handler.story[1].startswith("left alone: ")
        assert (handler.failures, client.over(1)) == ([], False)
        answer(r, 1)
        assert (await client.outcome()).status == 0
        await client.until(lambda: r.quiet)


async def test_where_both_fail_the_call_is_tried_again() -> None:
    async with rig(modes=("silent", "silent")) as r:
        client = await late_call(r)
        (handler,) = r.service.handlers
        r.service.late = False
        answer(r, 0, "refuse")
        await client.until(lambda: len(handler.story) == 2)
        answer(r, 1, "refuse")
        r.places[1].peers[0].mode = "ok"  # when it is asked again
        await client.until(lambda: len(handler.failures) == 1)
        assert (await client.outcome()).status == 0
        await client.until(lambda: r.quiet)


async def test_a_client_that_leaves_ends_both() -> None:
    async with rig(modes=("silent", "silent")) as r:
        client = await late_call(r)
        client.write(wire.reset(1, wire.Code.CANCEL))
        await client.until(lambda: resets(r, 0) == resets(r, 1) == [wire.Code.CANCEL])
        assert r.service.handlers[0].endings == [None]
        await client.until(lambda: r.quiet)


async def test_a_call_in_pieces_is_sent_twice_as_well() -> None:
    async with rig(modes=("silent", "ok")) as r:
        r.service.late = True
        client = await r.client()
        client.write(CALL[:-3])
        await asyncio.sleep(0.15)
        client.write(CALL[-3:])
        assert (await client.outcome()).status == 0
        assert r.service.handlers[0].story == ["sent", "won"]
        assert r.places[1].bodies == [message()]
        await client.until(lambda: r.quiet)


async def test_what_is_not_whole_or_large_goes_to_one_place_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig(modes=("silent", "ok")) as r:
        r.service.late = True
        client = await r.client()
        unended = block(STREAM)
        client.write(wire.frame(wire.HEADERS, wire.END_HEADERS, 1, unended))
        client.write(wire.frame(wire.DATA, 0, 1, message()))
        await client.until(lambda: bool(r.places[0].bodies))
        monkeypatch.setattr(rival, "MOST_BYTES", len(message()) - 1)
        client.write(call(3))
        await client.until(lambda: len(r.places[0].bodies) == 2)
        await asyncio.sleep(0.3)
        assert r.places[1].bodies == []
        assert all(handler.story == [] for handler in r.service.handlers)
        client.write(wire.reset(1, wire.Code.CANCEL) + wire.reset(3, wire.Code.CANCEL))
        await client.until(lambda: r.quiet)
