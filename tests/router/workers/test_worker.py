"""A worker in this process, told what to do as its keeper would."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from federation.contract.codec_snapshots import SnapshotWriter
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb
from router.settings import Settings
from router.workers import frames
from router.workers.link import Link, attach
from router.workers.places import CAN_SHARE, hold
from router.workers.worker import Inherited, serve
from tests.router.fakes import eventually, gateways, make_snapshot

SETTINGS = Settings(table="t.yaml", allow_anonymous=True, workers=2, max_concurrent=64)


def table(number: int, snapshot: Snapshot) -> frames.Table:
    whole = SnapshotWriter().instruction(snapshot)
    return frames.Table(number, pb.RouterInstructionParts.FromString(whole).snapshot)


class Keeper:
    """The other end of a worker's link."""

    def __init__(self, link: Link[frames.Word], address: tuple[str, int]) -> None:
        self.link = link
        self.url = "http://{}:{}".format(*address)
        self.heard: list[frames.Word] = []

    async def listen(self) -> None:
        self.heard += [word async for word in self.link]  # as it ends

    async def until(self, kind: type[frames.Word]) -> frames.Word:
        async with asyncio.timeout(10):
            async for word in self.link:
                self.heard.append(word)
                if isinstance(word, kind):
                    return word
        raise AssertionError(f"{kind} never came: {self.heard}")


@asynccontextmanager
async def a_worker(
    *told: frames.Order, sharing: bool = CAN_SHARE
) -> AsyncIterator[tuple[Keeper, "asyncio.Task[None]"]]:
    place = hold("127.0.0.1:0", sharing=sharing)
    handed = Inherited(clients=place.inherited and place.inherited.dup())
    one, other = socket.socketpair()
    link, mine = await attach(one, frames.word), await attach(other, frames.order)
    welcome = frames.Welcome(index=1, of=2, settings=SETTINGS, address=place.address)
    running = asyncio.get_running_loop().create_task(serve(welcome, mine, inherited=handed))
    for order in (frames.Standing(), *told, frames.Go()):
        link.send(order)
    try:
        yield Keeper(link, place.address), running
    finally:
        await link.close()
        async with asyncio.timeout(15):
            await running
        await mine.close()
        place.close()


async def infer(url: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + "/v2/models/digits/infer", data=b"{}") as response,
    ):
        return response.status


async def test_it_serves_what_it_was_told_before_and_follows() -> None:
    async with gateways("eu-1", "us-1") as fakes:
        first = make_snapshot({"eu-1": fakes["eu-1"].url})
        async with a_worker(table(1, first)) as (keeper, _):
            await keeper.until(frames.Up)
            assert keeper.heard[0] == frames.Applied(1)
            assert await infer(keeper.url) == 200
            keeper.link.send(table(2, make_snapshot({"us-1": fakes["us-1"].url}, version=2)))
            assert await keeper.until(frames.Applied) == frames.Applied(2)
            assert await infer(keeper.url) == 200
            assert fakes["us-1"].inferences == 1
            keeper.link.send(frames.Table(3, b"\xff"))
            refused = await keeper.until(frames.Applied)
            assert isinstance(refused, frames.Applied)
            assert "no snapshot" in refused.error
            for what, kind in (("report", frames.Report), ("metrics", frames.Figures)):
                keeper.link.send(frames.Ask(1, what))
                assert isinstance(await keeper.until(frames.Answer), frames.Answer)
                assert isinstance(keeper.heard[-2], kind)
            report = next(w for w in keeper.heard if isinstance(w, frames.Report) and w.counts)
            assert (report.requests, sum(sum(c.requests) for c in report.counts)) == (2, 2)
            keeper.link.send(frames.Ask(2, "explain", {"reference": "digits", "address": ""}))
            answer = await keeper.until(frames.Answer)
            assert isinstance(answer, frames.Answer)
            assert b'"chosen":"us-1"' in answer.data


async def test_it_finishes_what_is_in_flight_when_told_and_when_its_keeper_is_gone() -> None:
    async with gateways("eu-1") as fakes:
        fakes["eu-1"].delay_s = 0.3
        for parting in (frames.Stop(), None):
            snapshot = make_snapshot({"eu-1": fakes["eu-1"].url})
            async with a_worker(table(1, snapshot)) as (keeper, running):
                await keeper.until(frames.Up)
                before = fakes["eu-1"].inferences
                request = asyncio.get_running_loop().create_task(infer(keeper.url))
                await eventually(lambda: fakes["eu-1"].inferences > before)  # noqa: B023
                if parting is None:
                    await keeper.link.close()
                else:
                    keeper.link.send(parting)
                assert await request == 200
                async with asyncio.timeout(10):
                    await running
                if parting is not None:  # its last report came after the last answer
                    while not keeper.heard or not isinstance(keeper.heard[-1], frames.Report):
                        await keeper.until(frames.Report)
                    assert keeper.heard[-1].requests == 1


async def test_how_the_router_stands_is_what_clients_hear() -> None:
    async with a_worker() as (keeper, _):
        await keeper.until(frames.Up)
        assert await infer(keeper.url) == 503  # no table


async def test_where_no_address_can_be_shared_it_serves_on_what_it_inherits() -> None:
    async with a_worker(sharing=False) as (keeper, _):
        assert isinstance(await keeper.until(frames.Up), frames.Up)
        assert await infer(keeper.url) == 503
