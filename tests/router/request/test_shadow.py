import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from multidict import CIMultiDict

from federation.contract.rollout import CanaryRoute, VersionCounts
from federation.relay.headers import VERSION_HEADER
from router.policy import table as tables
from router.request.shadow import Said, agree
from tests.router.fakes import (
    ROUTES,
    FakeGateway,
    RouterUnderTest,
    eventually,
    gateways,
    make_snapshot,
    router_for,
)

STABLE, CANARY = 2, 1
Say = Callable[[web.Request, int], Awaitable[web.StreamResponse]]


async def right(request: web.Request, version: int) -> web.StreamResponse:
    return web.json_response({"model_version": str(version), "outputs": [{"data": [0.5]}]})


async def wrong(request: web.Request, version: int) -> web.StreamResponse:
    return web.json_response({"outputs": [{"data": [0.5 if version == STABLE else 0.7]}]})


@asynccontextmanager
async def world(
    say: Say, *, share: float = 100.0
) -> AsyncIterator[tuple[FakeGateway, RouterUnderTest]]:
    """One cluster whose canary gets everything, and a share of it is asked twice."""
    route = CanaryRoute(rollout="ro", version=CANARY, weights={"us": 100.0}, shadow_percent=share)
    digits, poet, private = ROUTES
    other = replace(poet, canary=replace(route, version=2))

    async def fault(request: web.Request) -> web.StreamResponse:
        shown = request.headers.get(VERSION_HEADER, request.path.split("/")[-2])
        return await say(request, int(shown))

    async with gateways("us-1") as fakes, router_for({"us-1": fakes["us-1"].url}) as router:
        fake = fakes["us-1"]
        fake.fault = fault
        snapshot = make_snapshot(
            {"us-1": fake.url}, version=2, routes=(replace(digits, canary=route), other, private)
        )
        router.state.swap(
            tables.build(replace(snapshot, access=router.state.require_table().snapshot.access))
        )
        comparing = asyncio.get_running_loop().create_task(router.proxy.shadow.run())
        try:
            yield fake, router
        finally:
            comparing.cancel()
            await asyncio.gather(comparing, return_exceptions=True)


def counted(router: RouterUnderTest, version: int = CANARY) -> VersionCounts:
    _, models = router.state.counting.report()
    found = {c.version: c for each in models for c in each}
    return found.get(version, VersionCounts(model="", version=version, region=""))


async def test_answers_that_agree_and_that_do_not_are_counted() -> None:
    for say, disagreed in ((right, 0), (wrong, 5)):
        async with world(say) as (fake, router):
            for i in range(5):
                status, told, _ = await router.infer(body=b'{"n": %d}' % i)
                assert (status, told["x-fed-model-version"]) == (200, str(CANARY))
                await eventually(lambda i=i: counted(router).compared == i + 1)  # type: ignore[misc]
            assert counted(router).disagreed == disagreed
            assert sum(counted(router).requests) == 5
            assert sum(counted(router, STABLE).requests) == 0  # none of a client's went there
            shadows = [head for _, head in fake.heads if "x-fed-shadow" in head]
            assert len(shadows) >= 5
            assert sum(fake.bodies.count(b'{"n": %d}' % i) for i in range(5)) == len(fake.heads)
            await eventually(lambda: router.state.signals.in_flight("us-1") == 0)


async def test_openai_requests_are_asked_of_the_stable_version() -> None:
    async with world(right) as (fake, router):
        body = b'{"model": "poet", "prompt": "x"}'
        _, told, _ = await router.ask("POST", "/v1/completions", body=body)
        assert told["x-fed-model-version"] == "2"
        await eventually(lambda: len(fake.heads) > 1)
        assert [head[VERSION_HEADER] for _, head in fake.heads[:2]] == ["2", "1"]
        assert "x-fed-shadow" in fake.heads[1][1]


async def test_what_is_not_compared() -> None:
    async def events(request: web.Request, version: int) -> web.StreamResponse:
        return web.Response(body=b"data: {}\n\n", content_type="text/event-stream")

    async def failing(request: web.Request, version: int) -> web.StreamResponse:
        return web.Response(status=500 if version == CANARY else 200, headers={"x-fed-load": "1"})

    for say, headers in ((events, {}), (failing, {}), (right, {"x-federation-replay": "never"})):
        async with world(say) as (fake, router):
            await router.infer(headers=headers)
            await asyncio.sleep(0)
            assert repr(router.proxy.shadow) == "Shadow(0 wait)"
            assert len(fake.heads) == 1
    async with world(right, share=0.0) as (fake, router):
        for _ in range(5):
            await router.infer()
        path = f"/v2/models/digits/versions/{STABLE}/infer"
        await router.ask("POST", path, body=b"{}")
        assert len(fake.heads) == 6


async def test_a_stable_version_that_fails_tells_nothing() -> None:
    async def failing(request: web.Request, version: int) -> web.StreamResponse:
        if version == CANARY:
            return await right(request, version)
        if request.content_length == 1 and request.transport:
            request.transport.abort()
        return web.Response(status=500, headers={"x-fed-load": "1"})

    async with world(failing) as (fake, router):
        for body in (b"1", b"22"):
            before = len(fake.heads)
            assert (await router.infer(body=body))[0] == 200
            await eventually(lambda before=before: len(fake.heads) >= before + 2)  # type: ignore[misc]
        await eventually(lambda: router.state.signals.in_flight("us-1") == 0)
        assert counted(router).compared == 0
        assert "ejected" not in repr(router.state.signals)


async def test_what_comes_faster_than_it_is_compared_is_left_out() -> None:
    gate = asyncio.Event()

    async def slow(request: web.Request, version: int) -> web.StreamResponse:
        if version == STABLE:
            await gate.wait()
        return await right(request, version)

    async with world(slow) as (_, router):
        for _ in range(30):
            assert (await router.infer())[0] == 200
        assert repr(router.proxy.shadow) == "Shadow(16 wait)"
        gate.set()
        await eventually(lambda: counted(router).compared == 17)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b'{"a": 1.0}', b'{"a": 1.00001}', True),
        (b'{"a": 1.0}', b'{"a": 2}', False),
        (b"text", b"text", True),
        (b"text", b"tex", False),
        (b"[" * 5000, b"[" * 5000, True),
    ],
)
def test_bodies_are_compared_as_json_or_to_the_byte(
    one: bytes, other: bytes, expected: bool
) -> None:
    assert agree(Said(200, CIMultiDict(), one), Said(200, CIMultiDict(), other)) is expected
    assert not agree(Said(200, CIMultiDict(), one), Said(404, CIMultiDict(), other))


def test_tensors_that_follow_json_are_compared() -> None:
    document = json.dumps(
        {"outputs": [{"datatype": "BYTES", "parameters": {"binary_data_size": 2}}]}
    ).encode()
    headers = CIMultiDict({"Inference-Header-Content-Length": str(len(document))})
    one, other = Said(200, headers, document + b"ab"), Said(200, headers, document + b"ac")
    assert agree(one, one)
    assert not agree(one, other)
