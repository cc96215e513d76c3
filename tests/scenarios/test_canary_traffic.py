"""A router between two versions, over real sockets: who gets which, what happens when the canary
dies, and that the counts are what the gateways saw."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from aiohttp import web

from federation.contract.rollout import CanaryRoute, VersionCounts
from federation.relay.headers import MODEL_HEADER, VERSION_HEADER
from router.policy import split
from router.policy import table as tables
from tests.router.fakes import (
    ROUTES,
    FakeGateway,
    RouterUnderTest,
    gateways,
    make_snapshot,
    refuse,
    reset,
    router_for,
)

CLIENTS = tuple(f"client-{i}" for i in range(40))
STABLE, CANARY = 2, 1  # of `digits`; its stable version is the higher one


def canary(**weights: float) -> CanaryRoute:
    return CanaryRoute(rollout="ro-1", version=CANARY, weights=weights)


def roll(router: RouterUnderTest, fakes: dict[str, FakeGateway], route: CanaryRoute | None) -> None:
    """Route by a snapshot in which a rollout goes on."""
    table = router.state.require_table()
    digits, poet, private = ROUTES
    other = replace(route, version=2) if route else None
    routes = [
        replace(digits, canary=route),
        replace(poet, canary=other, aliases={"old": 1, "new": 2}),
        private,
    ]
    urls = {name: fake.url for name, fake in fakes.items()}
    snapshot = make_snapshot(urls, version=table.version + 1, routes=routes)
    router.state.swap(tables.build(replace(snapshot, access=table.snapshot.access)))


@asynccontextmanager
async def world(
    *names: str, **weights: float
) -> AsyncIterator[tuple[dict[str, FakeGateway], RouterUnderTest]]:
    async with (
        gateways(*names) as fakes,
        router_for({name: fake.url for name, fake in fakes.items()}) as router,
    ):
        for i, name in enumerate(names):
            router.state.signals.probed(name, 10.0 + 100.0 * i, "", 0.0)
        roll(router, fakes, canary(**weights))
        yield fakes, router


async def ask(router: RouterUnderTest, client: str, model: str = "digits") -> tuple[int, int, str]:
    """Return status, version and rollout of an answer."""
    status, told, _ = await router.infer(model, headers={"x-fed-session": client} if client else {})
    return status, int(told.get("x-fed-model-version", 0)), told.get("x-fed-canary", "")


async def everybody(router: RouterUnderTest, clients: tuple[str, ...] = CLIENTS) -> dict[str, int]:
    answers = await asyncio.gather(*(ask(router, client) for client in clients))
    assert {status for status, _, _ in answers} == {200}
    assert all((rollout == "ro-1") == (version == CANARY) for _, version, rollout in answers)
    return {client: version for client, (_, version, _) in zip(clients, answers, strict=True)}


def seen(fakes: dict[str, FakeGateway], model: str = "digits") -> Counter[tuple[int, str]]:
    """What the gateways saw of a model, by version and region."""
    found: Counter[tuple[int, str]] = Counter()
    for name, fake in fakes.items():
        for path, head in fake.heads:
            if match := re.fullmatch(rf"/v2/models/{model}/versions/(\d+)/infer", path):
                found[int(match[1]), name.split("-")[0]] += 1
            elif head.get(MODEL_HEADER) == model:
                found[int(head[VERSION_HEADER]), name.split("-")[0]] += 1
    return found


def counted(router: RouterUnderTest, model: str = "digits") -> dict[tuple[int, str], VersionCounts]:
    _, models = router.state.counting.report()
    return {(c.version, c.region): c for each in models for c in each if c.model == model}


async def test_clients_keep_their_version_and_a_higher_share_moves_nobody_back() -> None:
    async with world("us-1", "us-2", us=25.0) as (fakes, router):
        expected = {c: CANARY if split.standing("ro-1", c)[0] < 25 else STABLE for c in CLIENTS}
        assert await everybody(router) == expected
        assert await everybody(router) == expected
        assert 3 <= Counter(expected.values())[CANARY] <= 17
        roll(router, fakes, canary(us=60.0))
        later = await everybody(router)
        assert all(later[c] == CANARY for c in CLIENTS if expected[c] == CANARY)
        assert Counter(later.values())[CANARY] > Counter(expected.values())[CANARY]
        roll(router, fakes, canary(us=0.0))
        assert set((await everybody(router)).values()) == {STABLE}
        roll(router, fakes, None)
        assert set((await everybody(router)).values()) == {STABLE}
        counts = counted(router)
        assert {key: sum(c.requests) for key, c in counts.items()} == seen(fakes)
        assert sum(len(fake.heads) for fake in fakes.values()) == 5 * len(CLIENTS)


async def test_pins_aliases_and_other_regions_are_left_alone() -> None:
    async with world("us-1", "eu-1", eu=100.0) as (fakes, router):
        assert await ask(router, "client-1") == (200, STABLE, "")
        for version, rollout in ((STABLE, ""), (CANARY, "ro-1")):
            path = f"/v2/models/digits/versions/{version}/infer"
            status, told, _ = await router.ask("POST", path, body=b"{}")
            assert (status, told["x-fed-model-version"]) == (200, str(version))
            assert told.get("x-fed-canary", "") == rollout
        for wanted, expected in (("poet@old", "1"), ("poet@new", "2"), ("poet@1", "1")):
            body = b'{"model": "%s", "user": "somebody"}' % wanted.encode()
            _, told, _ = await router.ask("POST", "/v1/completions", body=body)
            assert told["x-fed-model-version"] == expected
        assert (await ask(router, "client-1", "private"))[1:] == (1, "")  # it has no rollout
        assert seen(fakes)[CANARY, "eu"] == 0


async def test_requests_of_clients_that_nobody_knows_are_spread_by_dice() -> None:
    async with world("us-1", us=50.0) as (fakes, router):
        versions = Counter([(await ask(router, ""))[1] for _ in range(60)])
        assert min(versions[STABLE], versions[CANARY]) > 10
        assert seen(fakes) == {(v, "us"): n for v, n in versions.items()}


async def test_a_users_openai_requests_stay_together() -> None:
    async with world("us-1", us=50.0) as (_, router):
        for key in ("user", "prompt_cache_key", "safety_identifier"):
            for i in range(6):
                name = f"somebody-{i}"
                body = b'{"model": "poet", "%s": "%s"}' % (key.encode(), name.encode())
                _, told, _ = await router.ask("POST", "/v1/chat/completions", body=body)
                expected = "2" if split.standing("ro-1", name)[0] < 50 else "1"
                assert told["x-fed-model-version"] == expected


async def test_when_the_canary_dies_its_clients_get_the_stable_version_and_it_gets_the_blame() -> (
    None
):
    async def only_the_canary(request: web.Request) -> web.StreamResponse:
        if f"/versions/{CANARY}/" in request.path:
            return await sick(request)
        return web.json_response({"ok": True}, headers={"x-fed-load": "1"})

    for sick in (refuse, reset):
        async with world("us-1", us=100.0) as (fakes, router):
            fakes["us-1"].fault = only_the_canary
            answers = [await ask(router, client) for client in CLIENTS[:10]]
            assert answers == [(200, STABLE, "")] * 10
            counts = counted(router)
            blamed = counts[CANARY, "us"]
            bad = sum(blamed.refused) if sick is refuse else sum(blamed.errors)
            assert bad == sum(blamed.requests) > 0
            assert sum(counts[STABLE, "us"].requests) == 10
            assert not counts[STABLE, "us"].errors
            assert {key: sum(c.requests) for key, c in counts.items()} == seen(fakes)


async def test_an_engine_that_fails_and_a_stream_that_breaks_off_count_as_errors() -> None:
    async def failing(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "no"}, status=500, headers={"x-fed-load": "1"})

    async def breaking(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: {}\n\n")
        return await reset(request)

    async with world("us-1", us=100.0) as (fakes, router):
        fakes["us-1"].fault = failing
        assert (await ask(router, "client-1"))[0] == 500
        fakes["us-1"].fault = breaking
        assert (await ask(router, "client-1"))[0] == 200
        seen_ = counted(router)[CANARY, "us"]
        assert (sum(seen_.requests), sum(seen_.errors), seen_.latency) == (2, 2, {})


async def test_a_client_that_leaves_is_no_error() -> None:
    async with world("us-1", us=100.0) as (fakes, router):
        fakes["us-1"].delay_s = 30.0
        try:
            async with asyncio.timeout(0.5):
                await ask(router, "client-1")
        except TimeoutError:
            pass
        async with asyncio.timeout(10):
            await fakes["us-1"].cancelled.wait()
            while (CANARY, "us") not in counted(router):
                await asyncio.sleep(0.01)
        seen_ = counted(router)[CANARY, "us"]
        assert (sum(seen_.requests), seen_.errors, seen_.latency) == (1, (), {})
        fakes["us-1"].delay_s = 5.0
        status, _, _ = await router.infer(
            headers={"x-fed-deadline-ms": "100", "x-fed-session": "client-1"}
        )
        assert status == 504
        assert sum(counted(router)[CANARY, "us"].errors) == 1  # it did not answer in time
