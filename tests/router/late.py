"""A router whose requests are late after a short while, and clusters that are."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from router.policy.hedging import NEVER_S, Hedging
from router.policy.lanes import Lane
from router.policy.table import Resolved
from tests.router.fakes import (
    FakeGateway,
    Fault,
    RouterUnderTest,
    eventually,
    gateways,
    router_for,
)

LATE_S = 0.05
WARM = 20


def after(seconds: float, fault: Fault | None = None) -> Fault:
    """Answer, or do what a fault does, after a while."""

    async def late(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        if fault is not None:
            return await fault(request)
        return web.json_response({"by": "late", "outputs": []}, headers={"x-fed-load": "1"})

    return late


def believe_late(router: RouterUnderTest, after_s: float = LATE_S) -> None:
    """Make the requests of `digits` late after a while, whatever is seen."""
    route = router.state.require_table().models["digits"]
    for version in (1, 2):
        pace = router.state.hedging.pace(Resolved(route=route, version=version))
        pace.after_s, pace.until_s = after_s, NEVER_S


@asynccontextmanager
async def late_world(
    *names: str, share: float = 1.0, after_s: float = LATE_S
) -> AsyncIterator[tuple[RouterUnderTest, dict[str, FakeGateway]]]:
    """A router that prefers the first cluster, some requests old; `share` of them may be hedged."""
    async with AsyncExitStack() as stack:
        fakes = await stack.enter_async_context(gateways(*names))
        urls = {name: fake.url for name, fake in fakes.items()}
        router = await stack.enter_async_context(router_for(urls))
        for i, name in enumerate(names):
            router.state.signals.probed(name, 1.0 + 20.0 * i, "", 0.0)
        router.state.hedging = Hedging(share)
        for _ in range(WARM):
            status, told, _ = await router.infer()
            assert (status, told["x-fed-attempts"]) == (200, "1")
        if share:
            believe_late(router, after_s)
        for fake in fakes.values():
            fake.heads.clear()
            fake.bodies.clear()
            for lane in lanes(router, fake.name):  # what a busy machine made of it
                lane.service.forget()
                lane.hold.forget()
                lane.service_ms = lane.hold_ms = 0.0
        yield router, fakes
        await eventually(lambda: not any(router.state.signals.in_flight(n) for n in names))
        assert repr(router.proxy._admission).startswith("Admission(0/")
        assert all(lane.awaiting == 0 for n in names for lane in lanes(router, n))


def lanes(router: RouterUnderTest, cluster: str) -> list[Lane]:
    """All lanes of a cluster."""
    return list(router.state.signals.place(cluster).lanes.values())


def who(body: bytes) -> str:
    """Which gateway answered."""
    return str(json.loads(body)["by"])


def counted(router: RouterUnderTest, line: str) -> float:
    """The value of a counter, 0 if there is none."""
    for each in router.metrics.page().decode().splitlines():
        if each.startswith(line + " "):
            return float(each.rpartition(" ")[2])
    return 0.0
