"""Queues of engines: pages as they are served, and the real ones."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from edge_agent.backends.base import BackendError, StagedVersion, engine_name
from edge_agent.backends.engine_queues import MAX_BYTES, RayQueues, TritonQueues
from edge_agent.backends.ray_inference import path as ray_path
from edge_agent.backends.triton import TritonBackend
from edge_agent.policy.queues import RAY_QUEUED, TRITON_PENDING
from tests.engines.loaded import ray_backend
from tests.engines.packages import add_package
from tests.engines.ray import RayCluster
from tests.engines.triton import TritonServer

SLOW_MODEL = """
import time

class Model:
    def __init__(self, directory, parameters):
        pass

    def infer(self, inputs):
        if (inputs["x"] == 5).any():
            time.sleep(0.5)
        return {"y": inputs["x"], "upper": inputs["words"]}
"""
SLOW = {
    "inputs": [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [5, 5]},
        {"name": "words", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]},
    ]
}


@asynccontextmanager
async def pages(text: str, status: int = 200) -> AsyncIterator[str]:
    """Serve a page of metrics and, as Ray does, where it is."""
    tokens: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        tokens.append(request.headers.get("Authorization"))
        if request.path.startswith("/api"):
            targets = [{"labels": {"job": "ray"}, "targets": [request.host, request.host]}]
            return web.Response(text=json.dumps(targets), content_type="application/json")
        return web.Response(text=text, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_pages_are_read() -> None:
    text = f'{TRITON_PENDING}{{model="m--v1"}} 2\n{RAY_QUEUED}{{application="m--v1"}} 3\n'
    async with pages(text) as url:
        assert await TritonQueues(f"{url}/metrics").read() == {("m", 1): 2}
        assert await RayQueues(url, token="t").read() == {("m", 1): 3}


@pytest.mark.parametrize(("text", "status"), [("", 404), ("x" * (MAX_BYTES + 1), 200)])
async def test_what_is_no_page_is_refused(text: str, status: int) -> None:
    async with pages(text, status) as url:
        with pytest.raises(BackendError, match="shows"):
            await TritonQueues(f"{url}/metrics").read()
        with pytest.raises(BackendError, match="shows"):
            await RayQueues(url).read()
    with pytest.raises(BackendError, match="does not answer"):
        await RayQueues(url).read()


async def flood(url: str, count: int) -> list[int]:
    """Send so many slow requests at once."""

    async def one(session: aiohttp.ClientSession) -> int:
        async with session.post(url, json=SLOW) as answer:
            await answer.read()
            return answer.status

    async with aiohttp.ClientSession() as session:
        return await asyncio.gather(*(one(session) for _ in range(count)))


@pytest.mark.triton
async def test_what_waits_in_a_real_triton(
    triton_server: TritonServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    slow = add_package(tmp_path_factory.mktemp("slow"), version=81, code=SLOW_MODEL)
    backend = TritonBackend(triton_server.url, triton_server.repository)
    key, source = (slow.model, slow.version), TritonQueues(triton_server.metrics_url)
    try:
        await backend.load(slow)
        assert (await source.read())[key] == 0
        url = f"{triton_server.url}/v2/models/{engine_name(*key)}/infer"
        seen = [0]
        async with asyncio.timeout(45):
            while max(seen) < 3:
                flooding = asyncio.ensure_future(flood(url, 6))
                while not flooding.done():
                    seen.append((await source.read())[key])
                    await asyncio.sleep(0.05)
                assert set(await flooding) == {200}
        assert max(seen) <= 6
        assert (await source.read())[key] == 0
    finally:
        await backend.unload(*key)
        await backend.close()


@pytest.mark.ray
@pytest.mark.timeout(180)
async def test_what_waits_in_a_real_ray_cluster(
    ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    slow = add_package(tmp_path_factory.mktemp("slow"), version=82, code=SLOW_MODEL)
    await waits_in_ray(ray_cluster, slow)


async def waits_in_ray(cluster: RayCluster, slow: StagedVersion) -> None:
    key, backend = (slow.model, slow.version), ray_backend(cluster)
    source = RayQueues(cluster.dashboard_url, token=cluster.token)
    seen: list[int] = []

    async def look() -> None:
        while not seen or max(seen) == 0:
            seen.append((await source.read()).get(key, 0))
            await asyncio.sleep(0.5)

    try:
        await backend.load(slow)
        url = f"{cluster.serve_url}{ray_path(*key)}/infer"
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            looking = group.create_task(look())
            while not looking.done():
                assert set(await flood(url, 100)) == {200}
    finally:
        await backend.unload(*key)
        await backend.close()
    assert max(seen) > 0
