"""Regions that die, vanish, crawl or fail under an open-loop load, with real Tritons.

Three regions, each at 60 % of what it can do; FED_TEST_FAILURE_S is how long each fault lasts (3 s
unless told otherwise). Latency counts from when a request was due. A busy machine is slow by
itself: three times what the requests that were not affected took meanwhile, beyond the service
time, is added to each bar (a tenth of a second on a quiet machine).
A region that was sick gets its share back over some ten seconds, so each test takes another one.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from federation.demo.triton_install import TritonInstallation
from tests.e2e.open_loop import Calls, Load, Told, percentile, reconcile
from tests.e2e.regions import (
    REGIONS,
    REPLICAS,
    SERVICE_S,
    Regions,
    regions,
    seconds,
    until_well,
)
from tests.fakes.fault_proxy import BLACK_HOLE, PASS, RESET, Fault

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.triton,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]
RATE = 0.6 * len(REGIONS) * REPLICAS / SERVICE_S
SHARE_BACK_S = 40.0  # for a cluster that was out to have requests again


CUTS = {
    "reset": RESET,
    "black hole": BLACK_HOLE,
    "polite end": Fault(cut_after=0, politely=True),
}


@dataclass
class Stage:
    """What the tests of this module share."""

    built: Regions
    load: Load

    async def well(self) -> None:
        """Wait until all regions take part again, which needs requests."""
        clock = asyncio.get_running_loop().time
        began_s = clock()
        async with self.load.running():
            await until_well(self.built, self.load.session, "work")
        print(f"well after {clock() - began_s:.1f} s")

    async def fault(self, victim: str, fault: Fault) -> None:
        await self.built.proxies[victim].become(fault)

    def check(self, told: Sequence[Told]) -> None:
        """Nobody got an error, everybody the own answer, and the engines agree."""
        assert [one for one in told if not one.good] == []
        assert reconcile(told, self.built) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    triton_installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    root: Path = tmp_path_factory.mktemp("regions")
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        regions(root, triton_installation) as built,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        load = Load(built, session, RATE)
        await load.run(1.5)  # connections, estimates
        quiet = await load.run(2.0)
        print(f"quiet: p50 {percentile(quiet, 0.5):.3f} s, p99 {percentile(quiet, 0.99):.3f} s")
        yield Stage(built, load)


async def during(stage: Stage, load: Load, victim: str, fault: Fault) -> tuple[list[Told], float]:
    """Put a fault into the midst of the load; returns all requests and when it began."""
    clock = asyncio.get_running_loop().time
    async with load.running() as told:
        await asyncio.sleep(1.0)
        began_s = clock()
        await stage.fault(victim, fault)
        await asyncio.sleep(seconds())
        await stage.fault(victim, PASS)
        await asyncio.sleep(1.0)
    return told, began_s


def affected(told: Sequence[Told], began_s: float) -> list[Told]:
    """Return the requests that were under way when the fault began, or had to be sent again."""
    return [
        one for one in told if one.attempts > 1 or one.due_s <= began_s <= one.due_s + one.took_s
    ]


def slack_s(told: Sequence[Told], hit: Sequence[Told] = ()) -> float:
    """Return what this machine adds to an answer that has to be asked for three times."""
    others = {one.number for one in told} - {one.number for one in hit}
    spared = [one for one in told if one.number in others]
    return 3 * max(0.0, percentile(spared, 0.99) - SERVICE_S)


def report(name: str, told: Sequence[Told], began_s: float) -> list[Told]:
    hit = affected(told, began_s)
    after = [one for one in told if one.due_s > began_s]
    print(
        f"{name}: {len(told)} requests, {sum(not one.good for one in told)} errors; "
        f"{len(hit)} affected, p50 {percentile(hit, 0.5):.3f} p99 {percentile(hit, 0.99):.3f} s; "
        f"all after it began: p99 {percentile(after, 0.99):.3f} s; slack {slack_s(told, hit):.3f} s"
    )
    for one in sorted(told, key=lambda one: one.took_s)[-3:]:
        print(f"  due {one.due_s - began_s:+.3f} s: {one}")
    return hit


@pytest.mark.parametrize(
    ("name", "victim", "fault", "bar_s"),
    [("reset", "eu", RESET, 1.0), ("black hole", "us", BLACK_HOLE, 2.0)],
)
async def test_a_region_that_is_lost_costs_nobody_an_answer(
    stage: Stage, name: str, victim: str, fault: Fault, bar_s: float
) -> None:
    await stage.well()
    told, began_s = await during(stage, stage.load, victim, fault)
    lost(stage, name, told, began_s, bar_s)


@pytest.mark.parametrize(
    ("name", "victim", "fault", "bar_s"),
    [("reset", "ap", RESET, 1.0), ("black hole", "us", BLACK_HOLE, 2.0)],
)
async def test_nor_does_it_cost_a_grpc_call(
    stage: Stage, name: str, victim: str, fault: Fault, bar_s: float
) -> None:
    await stage.well()
    async with Calls.beside(stage.load) as calls:
        await calls.run(1.0)  # connections
        told, began_s = await during(stage, calls, victim, fault)
    lost(stage, f"{name}, gRPC", told, began_s, bar_s)


def lost(stage: Stage, name: str, told: Sequence[Told], began_s: float, bar_s: float) -> None:
    """Check what became of the requests while a region was lost."""
    hit = report(name, told, began_s)
    stage.check(told)
    assert len(hit) > RATE / len(REGIONS) * SERVICE_S / 2
    assert percentile(hit, 0.99) <= bar_s + slack_s(told, hit)


async def test_an_engine_that_is_killed_costs_nobody_an_answer(stage: Stage) -> None:
    """`kill -9` of Triton and its models: its gateway says so, and nothing else is asked of it."""
    await stage.well()
    engine = stage.built.engines["us"]
    clock = asyncio.get_running_loop().time
    async with stage.load.running() as told:
        await asyncio.sleep(1.0)
        began_s = clock()
        await asyncio.to_thread(engine.kill)
        await asyncio.sleep(seconds())
    await asyncio.to_thread(engine.start)
    hit = report("engine killed", told, began_s)
    stage.check(told)
    assert percentile(hit, 0.99) <= 1.0 + slack_s(told, hit)


@dataclass(frozen=True)
class Stream:
    """What a client saw of a stream of text."""

    prompt: str
    region: str
    pieces: int  # of text
    ended: str  # "whole", "told" (by an error event), or what is wrong

    @classmethod
    async def read(
        cls, stage: Stage, prompt: str, tokens: int, begun: "asyncio.Future[str]"
    ) -> "Stream":
        body = {"model": "poet", "prompt": prompt, "max_tokens": tokens, "stream": True}
        head = {"authorization": f"Bearer {stage.built.key}", "x-request-id": prompt}
        region, pieces, last = "", 0, ""
        try:
            async with (
                asyncio.timeout(60.0),
                stage.load.session.post(
                    f"{stage.built.router}/v1/completions", json=body, headers=head
                ) as answer,
            ):
                region = answer.headers.get("x-fed-region", "")
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        last = line[6:].decode().strip()
                        pieces += '"finish_reason": null' in last
                        if not begun.done():
                            begun.set_result(region)
        except (aiohttp.ClientError, TimeoutError) as error:
            return cls(prompt, region, pieces, f"{type(error).__name__}: {error}")
        if last == "[DONE]":
            return cls(prompt, region, pieces, "whole")
        found = json.loads(last).get("error", {}) if last else {}
        told = found.get("code") == "stream_broken"
        return cls(prompt, region, pieces, "told" if told else f"its end is {last!r}")


@pytest.mark.parametrize("name", ["reset", "polite end", "black hole", "engine killed"])
async def test_streams_that_began_are_ended_explicitly_and_never_begun_anew(
    stage: Stage, name: str
) -> None:
    loop = asyncio.get_running_loop()
    begun: list[asyncio.Future[str]] = [loop.create_future() for _ in range(6)]
    prompts = [f"{name.replace(' ', '-')}-{i}" for i in range(len(begun))]
    async with asyncio.TaskGroup() as group:
        reading = [
            group.create_task(Stream.read(stage, prompt, 100, seen))
            for prompt, seen in zip(prompts, begun, strict=True)
        ]
        ((victim, _),) = Counter(await asyncio.gather(*begun)).most_common(1)
        if name == "engine killed":
            await asyncio.to_thread(stage.built.engines[victim].kill)
        else:
            await stage.fault(victim, CUTS[name])
    await stage.fault(victim, PASS)
    if name == "engine killed":
        await asyncio.to_thread(stage.built.engines[victim].start)
    streams = [task.result() for task in reading]
    print(name, [f"{one.region} {one.pieces} {one.ended}" for one in streams])
    assert [s for s in streams if s.ended not in ("whole", "told")] == []
    assert {s.ended for s in streams if s.region == victim} == {"told"}
    assert {s.ended for s in streams if s.region != victim} <= {"whole"}
    assert all(s.pieces == 100 for s in streams if s.ended == "whole")
    assert all(0 < s.pieces < 100 for s in streams if s.ended == "told")
    began = stage.built.executed("began")
    assert {began[prompt] for prompt in prompts} == {1}


@pytest.mark.parametrize(("temper", "victim"), [("failing", "eu"), ("slow", "ap")])
async def test_a_replica_that_is_ten_times_slower_or_fails_half_of_the_time_is_out_soon(
    stage: Stage, temper: str, victim: str
) -> None:
    """It answers, and its gateway is well: only what it answers shows what it is. It is out when
    from then on at most one request in a hundred sees it (or one, of less than a hundred)."""
    await stage.well()
    clock = asyncio.get_running_loop().time
    async with stage.load.running() as told:
        async with asyncio.timeout(SHARE_BACK_S):  # a fault before may have cost it its share
            while sum(one.region == victim for one in told) < 10:
                await asyncio.sleep(0.1)
        stage.built.temper(victim, temper)
        began_s = clock()
        await asyncio.sleep(max(8.0, 2 * seconds()))
        stage.built.temper(victim, "")
        over_s = clock()
    assert reconcile(told, stage.built) == []
    during = sorted((o for o in told if began_s < o.due_s < over_s), key=lambda one: one.due_s)
    slow_s = 5 * SERVICE_S + slack_s([one for one in told if one.region != victim])
    saw = [not one.good or (one.region == victim and one.took_s > slow_s) for one in during]
    out = 0
    while sum(saw[out:]) > max(1, 0.01 * len(saw[out:])):
        out += saw[out:].index(True) + 1
    out_s = during[max(out - 1, 0)].due_s - began_s if out else 0.0
    print(
        f"{temper}: out after {out_s:.2f} s, {sum(saw[:out])} requests saw it before; after, "
        f"{sum(saw[out:])} of {len(saw) - out}; p99 then {percentile(during[out:], 0.99):.3f} s"
    )
    assert all(one.status == 500 for one in told if not one.good)
    assert out_s <= max(4.0, min(10.0, seconds()))
