import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

from aiohttp import web

from federation.contract.types import Location
from federation.demo.geography import Client
from federation.demo.load import Load, RouterAt, nearest_first
from federation.demo.payloads import Request, completion

_EUROPE = Location(latitude=50, longitude=5)
_AMERICA = Location(latitude=38, longitude=-78)
_PARISIAN = Client("81.2.69.160", "Europe", Location(latitude=48.9, longitude=2.4))
_PLAIN = completion("x", stream=False)
_STREAM = completion("x", stream=True)


class _Router:
    """A router's public side: answers whole, badly, or breaks off."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.broken_streams = 0
        self.status = 200

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.headers["x-forwarded-for"])
        asked = await request.json()
        headers = {"x-fed-region": "eu-west", "x-fed-attempts": "2"}
        if not asked["stream"]:
            told = {"choices": [{"text": "abcdefghijkl"}]}
            return web.json_response(told, headers=headers, status=self.status)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(b'data: {"x": 1}\n\n' * 12)
        if self.broken_streams:
            self.broken_streams -= 1
        else:
            await response.write(b"data: [DONE]\n\n")
        return response


@contextlib.asynccontextmanager
async def _served(router: _Router) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/completions", router.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _load(routers: list[RouterAt], request: Request, count: int = 3) -> Load:
    async with Load(routers, [_PARISIAN], [(1, request)], random.Random(1)) as load:
        left = iter(range(count))
        await load.run(200, lambda due_s: next(left, None) is not None)
        return load


async def test_requests_carry_the_client_and_outcomes_the_headers_of_the_answer() -> None:
    router = _Router()
    async with _served(router) as url:
        load = await _load([RouterAt("router-eu", url, _EUROPE)], _PLAIN)
    assert router.seen == ["81.2.69.160"] * 3
    first = load.outcomes[0]
    assert (first.region, first.attempts, first.sent, first.error) == ("eu-west", 2, 1, "")
    assert first.continent == "Europe"
    assert 0 < first.latency_s < 5
    assert load.in_flight == 0


async def test_a_client_whose_router_is_gone_goes_to_the_other() -> None:
    async with _served(_Router()) as url:
        near, far = (
            RouterAt("router-eu", "http://127.0.0.1:1", _EUROPE),
            RouterAt("router-us", url, _AMERICA),
        )
        load = await _load([far, near], _PLAIN)
    assert {(o.router, o.sent, o.error) for o in load.outcomes} == {("router-us", 2, "")}


async def test_a_stream_that_breaks_off_is_asked_for_again() -> None:
    router = _Router()
    router.broken_streams = 1
    async with _served(router) as url:
        load = await _load([RouterAt("router-eu", url, _EUROPE)], _STREAM, count=1)
    assert [(o.sent, o.error) for o in load.outcomes] == [(2, "")]


async def test_every_failure_is_counted_with_its_text() -> None:
    router = _Router()
    router.status = 503
    async with _served(router) as url:
        refused = await _load([RouterAt("router-eu", url, _EUROPE)], _PLAIN, count=1)
    lost = await _load([RouterAt("router-eu", "http://127.0.0.1:1", _EUROPE)], _PLAIN, count=1)
    assert refused.outcomes[0].error.startswith("completion: HTTP 503 {")
    assert lost.outcomes[0].error.startswith("router-eu: ClientConnectorError")
    assert lost.outcomes[0].sent == 4


async def test_the_load_does_not_wait_for_slow_answers() -> None:
    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return web.json_response({"choices": [{"text": "abcdefghijkl"}]})

    router = _Router()
    router.answer = slow  # type: ignore[method-assign,assignment]
    loop = asyncio.get_running_loop()
    async with _served(router) as url:
        started_s = loop.time()
        load = await _load([RouterAt("router-eu", url, _EUROPE)], _PLAIN, count=20)
    assert loop.time() - started_s < 6  # one after the other they would take ten seconds
    assert len(load.outcomes) == 20


def test_the_nearest_router_comes_first() -> None:
    near, far = RouterAt("eu", "", _EUROPE), RouterAt("us", "", _AMERICA)
    assert nearest_first(_PARISIAN, [far, near]) == [near, far]
