"""Whatever becomes of requests, nothing is in flight when they are over: on the short way, on the
usual one, hedged or sent again; at clusters that answer, refuse, break off, stall or vanish, for
clients that wait or leave.
"""

import asyncio
import contextlib
import random
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from router.probe import ProbeTimes
from router.request.call import ProxyLimits
from tests.router.fakes import (
    FakeGateway,
    RouterUnderTest,
    eventually,
    gateways,
    hang,
    refuse,
    reset,
    router_for,
)

FAST = ProbeTimes(interval_s=0.1, again_s=0.05, patience_s=0.3, quiet_s=0.05, hurry_s=0.1)
NAMES = ("eu-1", "us-1", "ap-1")


async def broken(request: web.Request) -> web.StreamResponse:
    """Some of an answer, and a broken connection."""
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    await response.write(b"x" * 1000)
    assert request.transport is not None
    request.transport.abort()
    return response


async def failing(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": "no"}, status=500, headers={"x-fed-load": "2"})


async def late(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(0.08)
    return web.json_response({"by": "late"}, headers={"x-fed-load": "2"})


FAULTS: tuple[Any, ...] = (None, None, refuse, reset, hang, broken, failing, late)


async def one(router: RouterUnderTest, dice: random.Random) -> None:
    """Ask something in some way, and perhaps leave before the answer."""
    text = dice.random() < 0.3
    path = "/v1/completions" if text else "/v2/models/digits/infer"
    body = b'{"model": "poet", "prompt": "x", "stream": %b}' % dice.choice((b"true", b"false"))
    headers = {"x-fed-deadline-ms": "600"} if dice.random() < 0.5 else {}
    headers |= {"X-Federation-Replay": "never"} if dice.random() < 0.1 else {}
    url = router.url + path
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(dice.choice((0.01, 0.05, 0.3, 2.0))):
            data = body if text else b'{"inputs": []}'
            async with router.session.post(url, data=data, headers=headers) as answer:
                await answer.read()


def in_flight(router: RouterUnderTest) -> list[object]:
    """Return what is counted anywhere."""
    admission, signals = router.proxy.shared().admission, router.state.signals
    lanes = [lane for place in signals._places.values() for lane in place.lanes.values()]
    return [
        *([admission] if admission.in_flight or admission.kept_bytes else ()),
        *(lane for lane in lanes if lane.own or lane.awaiting or lane.awaiting_sum_s),
        *(waiting for waiting in router.upstreams._waiting.values() if waiting),
    ]


def own_tasks() -> set["asyncio.Task[Any]"]:
    """Return all tasks but those of idle connections of the fake gateways, which aiohttp keeps."""
    return {task for task in asyncio.all_tasks() if "RequestHandler" not in repr(task.get_coro())}


@pytest.mark.timeout(60)
async def test_nothing_is_in_flight_when_all_is_over() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    limits = ProxyLimits(deadline_s=1.0, connect_s=0.3, idle_s=0.5)
    async with gateways(*NAMES) as fakes:
        urls = {name: fake.url for name, fake in fakes.items()}
        async with router_for(urls, limits=limits, times=FAST) as router:
            for fake in fakes.values():
                fake.more.set()
            await eventually(lambda: len(own_tasks()) == 3 + len(NAMES))  # probes, and this test
            before = own_tasks()
            for _ in range(12):
                await misbehave(fakes, dice)
                async with asyncio.TaskGroup() as group:
                    for _ in range(12):
                        group.create_task(one(router, dice))
            for fake in fakes.values():
                fake.fault, fake.silent = None, False
            with contextlib.suppress(TimeoutError):
                await eventually(lambda: not in_flight(router))
            assert in_flight(router) == []
            await router.session.close()
            with contextlib.suppress(TimeoutError):
                await eventually(lambda: own_tasks() <= before)
            assert own_tasks() <= before


async def misbehave(fakes: dict[str, FakeGateway], dice: random.Random) -> None:
    """Give each cluster a fault of its own; now and then one is killed and comes back."""
    for fake in fakes.values():
        fake.fault = dice.choice(FAULTS)
        fake.silent = dice.random() < 0.1
    if dice.random() < 0.3:
        victim = fakes[dice.choice(NAMES)]
        await victim.kill()
        await victim.start()
