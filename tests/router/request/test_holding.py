"""Requests for a model that sleeps: held, woken for, let go."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from federation.contract.types import ModelRoute, Snapshot
from router.policy import table as tables
from router.request.call import HoldingLimits, ProxyLimits
from tests.router.fakes import (
    ROUTES,
    FakeGateway,
    RouterUnderTest,
    eventually,
    gateways,
    make_snapshot,
    refuse,
    router_for,
)


def asleep(snapshot: Snapshot, *models: str) -> Snapshot:
    """The same fleet where these models sleep."""
    return replace(
        snapshot,
        models=tuple(
            replace(route, dormant=(1, 2)) if route.name in models else route
            for route in snapshot.models
        ),
        replicas=tuple(r for r in snapshot.replicas if r.model not in models),
    )


class Sleeper:
    """A router whose models sleep, and the control plane that it tells."""

    def __init__(self, router: RouterUnderTest, fakes: dict[str, FakeGateway]) -> None:
        self.router = router
        self._urls = {name: fake.url for name, fake in fakes.items()}
        self.told: list[dict[str, int]] = []
        self._version = 1
        router.state.on_demand.append(lambda: self.told.append(self.demand))

    def show(self, *sleeping: str, routes: tuple[ModelRoute, ...] = ROUTES) -> None:
        """A new table comes, in which these models sleep."""
        self._version += 1
        snapshot = make_snapshot(self._urls, version=self._version, routes=routes)
        self.router.state.swap(tables.build(asleep(snapshot, *sleeping)))

    @property
    def demand(self) -> dict[str, int]:
        return dict(self.router.state.demand())

    def metric(self, name: str, model: str = "digits") -> float:
        found = self.router.metrics.registry.get_sample_value(name, {"model": model})
        return found or 0.0

    async def until_held(self, count: int, model: str = "digits") -> None:
        await eventually(lambda: self.demand.get(model, 0) == count)


@asynccontextmanager
async def sleeper(**limits: float) -> AsyncIterator[tuple[Sleeper, dict[str, FakeGateway]]]:
    holding = HoldingLimits(**limits)  # type: ignore[arg-type]
    async with gateways("eu-1") as fakes:
        urls = {name: fake.url for name, fake in fakes.items()}
        async with router_for(urls, limits=ProxyLimits(holding=holding)) as router:
            made = Sleeper(router, fakes)
            made.show("digits", "poet")
            yield made, fakes


async def test_a_request_waits_until_its_model_is_awake() -> None:
    async with sleeper() as (world, _), asyncio.TaskGroup() as group:
        asked = group.create_task(world.router.infer())
        await world.until_held(1)
        assert world.told == [{"digits": 1}]
        assert world.metric("fed_router_held_requests") == 1
        world.show("digits", "poet")  # news of others change nothing
        await asyncio.sleep(0)
        assert not asked.done()
        world.show("poet")
        status, told, body = await asked
        assert (status, json.loads(body)["by"]) == (200, "eu-1")
        assert told["x-fed-model-version"] == "2"
        assert world.demand == {}
        assert world.metric("fed_router_held_requests") == 0
        assert world.metric("fed_router_held_total") == 1
        assert world.metric("fed_router_wake_ups_total") == 1
        assert world.metric("fed_router_hold_seconds_count") == 1


async def test_a_stream_waits_as_well() -> None:
    async with sleeper() as (world, fakes), asyncio.TaskGroup() as group:
        fakes["eu-1"].more.set()
        body = json.dumps({"model": "poet", "prompt": "x", "stream": True}).encode()
        asked = group.create_task(world.router.ask("POST", "/v1/completions", body=body))
        await world.until_held(1, "poet")
        world.show()
        status, _, answer = await asked
        assert status == 200
        assert answer.endswith(b"data: [DONE]\n\n")


async def test_all_that_wait_go_on_and_one_of_them_wakes_the_model() -> None:
    async with sleeper() as (world, _), asyncio.TaskGroup() as group:
        asked = [group.create_task(world.router.infer()) for _ in range(20)]
        await world.until_held(20)
        assert len(world.told) == 1
        world.show()
        assert [(await task)[0] for task in asked] == [200] * 20


async def test_a_version_that_is_named_is_woken_and_an_unknown_one_is_not() -> None:
    async with sleeper() as (world, _), asyncio.TaskGroup() as group:
        asked = group.create_task(world.router.ask("POST", "/v2/models/digits/versions/1/infer"))
        await world.until_held(1)
        status, _, _ = await world.router.ask("POST", "/v2/models/digits/versions/7/infer")
        assert status == 404
        world.show()
        assert (await asked)[1]["x-fed-model-version"] == "1"


async def test_each_version_is_waited_for_by_itself() -> None:
    async with sleeper() as (world, fakes), asyncio.TaskGroup() as group:
        paths = {number: f"/v2/models/digits/versions/{number}/infer" for number in (1, 2)}
        asked = {
            number: group.create_task(world.router.ask("POST", path, body=b"{}"))
            for number, path in paths.items()
        }
        await world.until_held(2)
        urls = {name: fake.url for name, fake in fakes.items()}
        snapshot = make_snapshot(urls, version=9)
        half = replace(
            asleep(snapshot, "digits"),
            models=tuple(replace(route, dormant=(2,)) for route in snapshot.models),
            replicas=tuple(r for r in snapshot.replicas if r.version == 1),
        )
        world.router.state.swap(tables.build(half))
        assert (await asked[1])[0] == 200
        assert world.demand == {"digits": 1}
        assert not asked[2].done()
        world.show()
        assert (await asked[2])[0] == 200


async def test_who_leaves_gives_the_place_free() -> None:
    async with sleeper(per_model=1) as (world, _):
        asked = asyncio.ensure_future(world.router.infer())
        await world.until_held(1)
        asked.cancel()
        await world.until_held(0)
        assert "Holding(0 of" in repr(world.router.proxy._holding)
        async with asyncio.TaskGroup() as group:
            again = group.create_task(world.router.infer())
            await world.until_held(1)
            world.show()
            assert (await again)[0] == 200


@pytest.mark.parametrize(
    ("limits", "body", "words"),
    [
        ({"per_model": 1}, b"{}", "1 requests wait for it already"),
        ({"total": 1}, b"{}", "1 requests wait for models already"),
        ({"body_bytes": 2}, b"{}", "no memory for the bodies"),
    ],
)
async def test_beyond_its_bounds_a_request_is_refused_in_words(
    limits: dict[str, float], body: bytes, words: str
) -> None:
    async with sleeper(**limits) as (world, _), asyncio.TaskGroup() as group:
        first = group.create_task(world.router.infer(body=body))
        await world.until_held(1)
        status, told, answer = await world.router.infer(body=body)
        assert (status, told["retry-after"]) == (503, "5")
        assert words in json.loads(answer)["error"]
        assert world.demand == {"digits": 1}
        world.show()
        assert (await first)[0] == 200


async def test_who_is_too_large_to_wait_wakes_the_model_all_the_same() -> None:
    async with sleeper(body_bytes=1) as (world, _):
        status, _, answer = await world.router.infer()
        assert status == 503
        assert "sleeps and is woken now" in json.loads(answer)["error"]
        assert world.told == [{"digits": 1}]
        assert world.metric("fed_router_held_total") == 0
        world.show()
        assert world.demand == {}
        assert (await world.router.infer())[0] == 200


@pytest.mark.parametrize("headers", [{}, {"x-fed-deadline-ms": "50"}])
async def test_waiting_ends_in_words(headers: dict[str, str]) -> None:
    limits = {} if headers else {"hold_s": 0.05}
    async with sleeper(**limits) as (world, _):
        status, told, answer = await world.router.infer(headers=headers)
        assert (status, told["retry-after"]) == (503, "5")
        assert "was not awake after" in json.loads(answer)["error"]
        assert "still being loaded" in json.loads(answer)["error"]
        world.router.state.on_demand.clear()
        _, _, answer = await world.router.infer(headers=headers)
        assert "the control plane, which wakes it, is out of contact" in json.loads(answer)["error"]


async def test_a_cluster_that_refused_as_it_fell_asleep_serves_who_waited() -> None:
    async with sleeper() as (world, fakes), asyncio.TaskGroup() as group:
        world.show()

        async def falls_asleep(request: object) -> object:
            fakes["eu-1"].fault = None
            world.show("digits")
            return await refuse(request)  # type: ignore[arg-type]

        fakes["eu-1"].fault = falls_asleep  # type: ignore[assignment]
        asked = group.create_task(world.router.infer())
        await world.until_held(1)
        world.show()
        status, told, _ = await asked
        assert (status, told["x-fed-attempts"]) == (200, "1")


async def test_the_model_is_gone_while_a_request_waits() -> None:
    async with sleeper() as (world, _), asyncio.TaskGroup() as group:
        asked = group.create_task(world.router.infer())
        await world.until_held(1)
        world.show(routes=ROUTES[1:])
        assert (await asked)[0] == 404


async def test_asking_whether_it_is_ready_wakes_nobody() -> None:
    async with sleeper() as (world, _):
        status, _, answer = await world.router.ask("GET", "/v2/models/digits/ready")
        assert status == 400
        assert "sleeps, since nobody used it" in json.loads(answer)["error"]
        assert world.demand == {}


async def test_what_could_not_wait_counts_as_demand_for_a_while_only() -> None:
    async with sleeper(body_bytes=1) as (world, _):
        await world.router.infer()
        holding = world.router.proxy._holding
        assert holding.demand() == {"digits": 1}
        holding._refused_s = {model: at - 60 for model, at in holding._refused_s.items()}
        assert holding.demand() == {}
