"""Late calls at two clusters: real sockets, gateways and engines that take their time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from router.policy.hedging import NEVER_S, Hedging
from router.policy.table import Resolved
from router.records import why
from tests.router.grpc.world import World, eventually, request, world

LATE_S = 0.05
SLOW_S = 20.0  # nobody waits for that
WARM = 20


@asynccontextmanager
async def late_world(*names: str, share: float = 1.0) -> AsyncIterator[tuple[World, Any]]:
    """A router that prefers the first cluster, some calls old; `share` of them may be hedged."""
    async with world(*names) as w:
        for i, name in enumerate(names):
            w.state.signals.probed(name, 1.0 + 20.0 * i, "", 0.0)
        w.state.hedging = Hedging(share)
        stub = w.stub()
        for _ in range(WARM):
            await stub.ModelInfer(request())
        for name in names:  # a connection to each, as after any retry
            w.service.backend(name, w.clusters[name].url).free()
            w.clusters[name].engine.seen.clear()
            for lane in w.state.signals.place(name).lanes.values():  # what a busy machine made
                lane.service.forget()
                lane.hold.forget()
                lane.service_ms = lane.hold_ms = 0.0
        route = w.state.require_table().models["digits"]
        pace = w.state.hedging.pace(Resolved(route=route, version=2))
        pace.after_s, pace.until_s = LATE_S, NEVER_S
        yield w, stub
        await eventually(lambda: w.quiet)
        lanes = [lane for n in names for lane in w.state.signals.place(n).lanes.values()]
        assert all(lane.awaiting == lane.own == 0 for lane in lanes)


def hedges(w: World, outcome: str) -> float:
    labels = {"outcome": outcome}
    registry = w.service.shared.metrics.registry
    return registry.get_sample_value("fed_router_hedges_total", labels) or 0.0


async def ask(
    stub: Any, name: str, *more: tuple[str, str], of: Any = None
) -> tuple[str, dict[str, str]]:
    """Returns which engine answered, and what the router told."""
    call = stub.ModelInfer(of or request(), metadata=(("x-request-id", name), *more), timeout=10)
    answer = await call
    return answer.parameters["by"].string_param, dict(await call.initial_metadata())


async def test_a_late_call_is_answered_by_a_second_cluster_and_the_first_is_cancelled() -> None:
    async with late_world("eu-1", "us-1") as (w, stub):
        eu, us = w.clusters["eu-1"].engine, w.clusters["us-1"].engine
        eu.delay_s = SLOW_S
        before = w.state.requests_total
        by, told = await ask(stub, "late")
        assert (by, told["x-fed-cluster"]) == ("us-1", "us-1")
        assert (told["x-fed-hedged"], told["x-fed-attempts"]) == ("won", "2")
        await asyncio.wait_for(eu.cancelled.wait(), 10)
        assert (len(eu.seen), len(us.seen)) == (1, 1)
        assert w.state.requests_total == before + 1
        assert hedges(w, "won") == 1
        (record,) = w.state.records.of("late")
        assert (record.status, record.failed) == (200, ())
        assert "eu-1 had not answered after" in why(record)
        assert "us-1 was asked too: it answered first" in why(record)
        assert w.state.health()["eu-1"][1]  # to be slow once is no failure


async def test_a_first_cluster_that_answers_after_all() -> None:
    async with late_world("eu-1", "us-1") as (w, stub):
        eu, us = w.clusters["eu-1"].engine, w.clusters["us-1"].engine
        eu.delay_s, us.delay_s = 0.5, SLOW_S
        by, told = await ask(stub, "lost")
        assert (by, told["x-fed-cluster"], told["x-fed-hedged"]) == ("eu-1", "eu-1", "lost")
        await asyncio.wait_for(us.cancelled.wait(), 10)
        assert (len(us.seen), hedges(w, "lost")) == (1, 1)


@pytest.mark.parametrize("both", [False, True])
async def test_where_one_fails_the_other_answers_and_where_both_fail_a_third_is_asked(
    both: bool,
) -> None:
    async with late_world("eu-1", "us-1", "us-2") as (w, stub):
        w.clusters["us-2"].engine.delay_s = w.clusters["us-1"].engine.delay_s = 0.4
        w.clusters["eu-1"].engine.delay_s = SLOW_S
        calling = asyncio.ensure_future(ask(stub, "failing"))
        await eventually(lambda: len(w.seen()) == 2)
        second = next(n for n in ("us-1", "us-2") if w.clusters[n].engine.seen)
        await w.clusters["eu-1"].gateway.switch.close()
        if not both:
            by, told = await calling
            assert (by, told["x-fed-attempts"], told["x-fed-hedged"]) == (second, "2", "won")
            return
        await w.clusters[second].gateway.switch.close()
        by, told = await calling
        assert by == ({"us-1", "us-2"} - {second}).pop()
        assert told["x-fed-attempts"] == "3"
        assert hedges(w, "both_failed") == 1


async def test_a_client_that_leaves_ends_both() -> None:
    async with late_world("eu-1", "us-1") as (w, stub):
        for cluster in w.clusters.values():
            cluster.engine.delay_s = SLOW_S
        call = stub.ModelInfer(request(), metadata=(("x-request-id", "left"),))
        await eventually(lambda: len(w.seen()) == 2)
        call.cancel()
        for cluster in w.clusters.values():
            await asyncio.wait_for(cluster.engine.cancelled.wait(), 10)
        await eventually(lambda: w.quiet)
        (record,) = w.state.records.of("left")
        assert record.status == 499
        assert hedges(w, "left") == 1


async def test_the_budget_holds_where_everything_is_slow() -> None:
    async with late_world("eu-1", "us-1", share=0.02) as (w, stub):
        for cluster in w.clusters.values():
            cluster.engine.delay_s = 0.3
        told = await asyncio.gather(*(ask(stub, f"slow-{i}") for i in range(60)))
        hedged = [one for _, one in told if "x-fed-hedged" in one]
        assert len(hedged) <= 0.02 * w.state.budget.requests
        assert len(w.seen()) == 60 + len(hedged)


@pytest.mark.parametrize("replay", ["never", "on-failure"])
async def test_what_its_client_wants_once_is_sent_once(replay: str) -> None:
    async with late_world("eu-1", "us-1") as (w, stub):
        w.clusters["eu-1"].engine.delay_s = 0.4
        by, told = await ask(stub, "once", ("x-federation-replay", replay))
        assert (by, "x-fed-hedged" in told, len(w.seen())) == ("eu-1", False, 1)


async def test_a_sequence_is_sent_once() -> None:
    async with late_world("eu-1", "us-1") as (w, stub):
        w.clusters["eu-1"].engine.delay_s = 0.4
        of = request()
        of.parameters["sequence_id"].int64_param = 7
        by, told = await ask(stub, "sequence", of=of)
        assert (by, "x-fed-hedged" in told, len(w.seen())) == ("eu-1", False, 1)


async def test_a_stream_is_sent_once() -> None:
    async with late_world("eu-1", "us-1") as (w, stub):
        w.clusters["eu-1"].engine.delay_s = 0.1

        async def requests() -> AsyncIterator[Any]:
            yield request()

        call = stub.ModelStreamInfer(requests())
        assert len([answer async for answer in call]) == 3
        assert await call.code() is grpc.StatusCode.OK
        assert len(w.seen()) == 1


async def test_a_call_that_is_not_late_is_at_one_cluster() -> None:
    async with late_world("eu-1", "us-1") as (w, stub):
        for i in range(20):
            _, told = await ask(stub, f"fast-{i}")
            assert "x-fed-hedged" not in told
        assert len(w.seen()) == 20
