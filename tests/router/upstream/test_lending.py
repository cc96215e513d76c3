import asyncio
import time
from typing import Any

import pytest

from federation.relay.failures import Refused
from router.upstream.lending import Counts, Lender, Owner, ReversedConnection


class Transport(asyncio.Transport):
    """A transport that goes nowhere."""

    closed = False

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Quiet(Owner):
    """Hears of everything."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def arrived(self, connection: ReversedConnection, transport: asyncio.Transport) -> None:
        self.heard.append("arrived")

    def gone(self, connection: ReversedConnection) -> None:
        self.heard.append("gone")

    def spoke(self, connection: ReversedConnection, data: bytes) -> None:
        self.heard.append(f"spoke {data!r}")


def lender_with(count: int) -> tuple[Lender, list[ReversedConnection]]:
    lender = Lender("eu-1", usable=lambda one: one.is_connected())
    made = [connection() for _ in range(count)]
    for one in made:
        lender.open.add(one)
        lender.give_back(one)
    return lender, made


def connection(owner: Owner | None = None) -> ReversedConnection:
    one = ReversedConnection(owner or Quiet())
    one.connection_made(Transport())
    return one


async def take(lender: Lender, *, patience_s: float = 5.0, probe: bool = False) -> Any:
    return await lender.take(patience_s=patience_s, probe=probe)


async def settled(tasks: "list[asyncio.Task[Any]]", lender: Lender, waiting: int) -> None:
    while lender.waiting < waiting:
        assert not all(task.done() for task in tasks)
        await asyncio.sleep(0)


async def test_the_newest_is_lent_first_and_given_back() -> None:
    lender, (a, b) = lender_with(2)
    assert await take(lender) is b
    assert not b.idle
    assert await take(lender) is a
    assert lender.counts() == Counts(idle=0, lent=2, waiting=0)
    lender.give_back(a)
    assert a.idle
    assert await take(lender) is a
    assert "eu-1" in repr(lender)


async def test_those_who_wait_are_served_in_their_order() -> None:
    lender, (one,) = lender_with(1)
    await take(lender)
    loop = asyncio.get_running_loop()
    first, second = tasks = [loop.create_task(take(lender)) for _ in range(2)]
    await settled(tasks, lender, 2)
    lender.give_back(one)
    assert await first is one
    assert not second.done()
    lender.give_back(one)
    assert await second is one
    assert lender.waiting == 0


async def test_nobody_waits_for_ever_and_it_is_told_why() -> None:
    lender, _ = lender_with(0)
    with pytest.raises(Refused, match="no connection to this router"):
        await take(lender, patience_s=0.01)
    lender, _ = lender_with(1)
    await take(lender)
    with pytest.raises(Refused, match="all 1 connections of cluster eu-1 are busy"):
        await take(lender, patience_s=0.01)
    assert lender.waiting == 0


async def test_a_line_that_moves_is_worth_waiting_in_for_a_while() -> None:
    lender, (one,) = lender_with(1)
    await take(lender)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    tasks = [loop.create_task(take(lender, patience_s=0.4)) for _ in range(9)]
    await settled(tasks, lender, 9)
    for _ in range(5):
        await asyncio.sleep(0.24)
        lender.give_back(one)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert 1.1 < loop.time() - began_s < 5
    assert results[:4] == [one] * 4  # the last of them after more than twice its patience
    assert all(isinstance(result, Refused) for result in results[5:])


async def test_who_leaves_the_line_takes_nothing_along() -> None:
    lender, (one,) = lender_with(1)
    await take(lender)
    waiting = asyncio.get_running_loop().create_task(take(lender))
    await settled([waiting], lender, 1)
    waiting.cancel()
    lender.give_back(one)  # in the same step: either it is never lent, or it comes back
    await asyncio.gather(waiting, return_exceptions=True)
    assert lender.counts() == Counts(idle=1, lent=0, waiting=0)
    await take(lender)
    waiting = asyncio.get_running_loop().create_task(take(lender))
    await settled([waiting], lender, 1)
    lender.give_back(one)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert lender.counts() == Counts(idle=1, lent=0, waiting=0)


async def test_what_broke_is_not_lent() -> None:
    lender, (a, b) = lender_with(2)
    assert b.transport is not None
    b.transport.close()
    assert await take(lender) is a
    assert lender.counts().idle == 0
    assert a.transport is not None
    a.transport.close()
    lender.give_back(a)
    assert lender.counts().idle == 0
    lender, (c,) = lender_with(1)
    transport = c.transport
    await take(lender)
    c.force_close()
    lender.give_back(c)  # its answer did not end cleanly
    assert isinstance(transport, Transport)
    assert transport.closed
    assert lender.counts().idle == 0


async def test_a_connection_that_breaks_as_it_is_lent_is_refused_not_used() -> None:
    lender, (one,) = lender_with(1)
    await take(lender)
    waiting = asyncio.get_running_loop().create_task(take(lender))
    await settled([waiting], lender, 1)
    lender.give_back(one)
    assert one.transport is not None
    one.transport.close()
    with pytest.raises(Refused, match="broke"):
        await waiting


async def test_probes_go_first_and_have_one_connection_kept() -> None:
    lender, made = lender_with(8)
    for _ in range(7):
        await take(lender)
    request = asyncio.get_running_loop().create_task(take(lender))
    await settled([request], lender, 1)
    assert lender.counts().idle == 1
    kept = await take(lender, probe=True)
    assert kept is made[0]
    probe = asyncio.get_running_loop().create_task(take(lender, probe=True))
    await asyncio.sleep(0)
    lender.give_back(kept)
    assert await probe is kept
    lender.give_back(kept)
    assert not request.done()
    lender.give_back(made[1])
    assert await request is made[1]


async def test_a_connection_withdrawn_is_not_lent() -> None:
    lender, (a, b) = lender_with(2)
    assert lender.withdraw(b)
    assert not lender.withdraw(b)
    assert await take(lender) is a


async def test_an_idle_connection_tells_what_it_hears() -> None:
    owner = Quiet()
    one = connection(owner)
    one.idle = True
    one.data_received(b"x")
    one.connection_lost(None)
    assert owner.heard == ["arrived", "spoke b'x'", "gone"]
    assert repr(one) == "ReversedConnection(, idle)"


async def test_who_waits_for_an_agent_that_is_gone_does_not_wait_long() -> None:
    lender, (only,) = lender_with(1)
    await take(lender)
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(take(lender, patience_s=30.0))
    await settled([waiting], lender, 1)
    began_s = loop.time()
    lender.forget(only)
    with pytest.raises(Refused, match="no connection to this router"):
        await waiting
    with pytest.raises(Refused, match="no connection to this router"):
        await take(lender, patience_s=30.0)
    assert loop.time() - began_s < 5.0  # half a second each


async def test_an_agent_that_is_back_at_once_finds_who_waits_for_it() -> None:
    lender, (only,) = lender_with(1)
    await take(lender)
    waiting = asyncio.create_task(take(lender, patience_s=30.0))
    await settled([waiting], lender, 1)
    lender.forget(only)
    back = connection()
    lender.open.add(back)
    lender.give_back(back)
    assert await waiting is back


async def test_while_this_process_stands_still_nobody_runs_out_of_patience() -> None:
    lender, _ = lender_with(0)
    waiting = asyncio.create_task(take(lender))
    await settled([waiting], lender, 1)
    time.sleep(0.8)  # the machine gives us no time
    for _ in range(20):  # what came meanwhile takes a few rounds of the loop to be taken in
        await asyncio.sleep(0.005)
    arrived = connection()
    lender.open.add(arrived)
    lender.give_back(arrived)
    assert await waiting is arrived
