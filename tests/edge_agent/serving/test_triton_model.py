"""The Python backend's model, in a real Triton: batches, streams and their end."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import tritonclient.http.aio as triton

from edge_agent.backends.base import StagedVersion
from edge_agent.backends.triton import TritonBackend
from edge_agent.serving.sse import EventReader
from tests.engines.packages import add_package, count_package, notes_of
from tests.engines.triton import TritonServer

pytestmark = pytest.mark.triton


@pytest.fixture
async def client(triton_server: TritonServer) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(triton_server.address) as client:
        yield client


class Loaded:
    """Loads packages for one test and unloads them after it."""

    def __init__(self, server: TritonServer) -> None:
        self.url = server.url
        self._backend = TritonBackend(server.url, server.repository)

    async def load(self, staged: StagedVersion) -> None:
        await self._backend.load(staged)

    async def close(self) -> None:
        left = await self._backend.loaded()
        await asyncio.gather(*(self._backend.unload(v.model, v.version) for v in left))
        await self._backend.close()


@pytest.fixture
async def loaded(triton_server: TritonServer) -> AsyncIterator[Loaded]:
    found = Loaded(triton_server)
    yield found
    await found.close()


async def infer(client: triton.InferenceServerClient, x: float, rows: int = 1) -> Any:
    number = triton.InferInput("x", [rows, 2], "FP32")
    number.set_data_from_numpy(np.full((rows, 2), x, np.float32))
    words = triton.InferInput("words", [rows, 1], "BYTES")
    words.set_data_from_numpy(np.full((rows, 1), f"w{x}".encode(), dtype=object))
    return await client.infer("add--v1", [number, words])


async def test_requests_in_one_batch_get_their_own_rows(
    loaded: Loaded, client: triton.InferenceServerClient, tmp_path: Path
) -> None:
    await loaded.load(add_package(tmp_path))
    results = await asyncio.gather(*(infer(client, n, rows=1 + n % 3) for n in range(20)))
    for n, result in enumerate(results):
        assert result.as_numpy("y").tolist() == [[n + 1, n + 1]] * (1 + n % 3)
        assert result.as_numpy("upper").tolist() == [[f"W{n}".encode()]] * (1 + n % 3)


async def test_one_bad_request_does_not_spoil_its_batch(
    loaded: Loaded, client: triton.InferenceServerClient, tmp_path: Path
) -> None:
    await loaded.load(add_package(tmp_path))
    results = await asyncio.gather(
        *(infer(client, 666 if n == 5 else n) for n in range(12)), return_exceptions=True
    )
    failed = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
    assert failed == [5]
    assert "RuntimeError: this number is refused" in str(results[5])


async def stream(url: str, **fields: Any) -> AsyncIterator[dict[str, Any]]:
    reader, path = EventReader(), f"{url}/v2/models/count--v1/versions/1/generate_stream"
    async with aiohttp.ClientSession() as session, session.post(path, json=fields) as answer:
        async for chunk in answer.content.iter_any():
            for event in reader.feed(chunk):
                yield json.loads(event)


async def test_text_comes_token_by_token(loaded: Loaded, tmp_path: Path) -> None:
    await loaded.load(count_package(tmp_path, pause_s=0.05))
    loop, times, texts = asyncio.get_running_loop(), [], []
    async for event in stream(loaded.url, text_input="a b c", max_tokens=6, seed=1, stop=["4"]):
        times.append(loop.time())
        texts.append(event["text_output"])
        assert event.get("prompt_tokens", 3) == 3
    assert texts == ["0 ", "1 ", "2 ", "3 ", ""]
    assert times[-1] - times[0] > 0.15  # the first came long before the last was made


async def test_leaving_ends_the_generation_within_a_token_or_two(
    loaded: Loaded, tmp_path: Path
) -> None:
    await loaded.load(count_package(tmp_path, pause_s=0.05))
    seen = 0
    async for _ in stream(loaded.url, text_input="go", max_tokens=1000):
        seen += 1
        if seen == 3:
            break
    await asyncio.sleep(0.4)
    assert len(notes_of(tmp_path).read_text().split()) <= 6


async def test_streams_run_side_by_side(loaded: Loaded, tmp_path: Path) -> None:
    await loaded.load(count_package(tmp_path, pause_s=0.1))

    async def drain() -> int:
        return len([e async for e in stream(loaded.url, text_input="go", max_tokens=5)])

    started = asyncio.get_running_loop().time()
    assert await asyncio.gather(*(drain() for _ in range(8))) == [5] * 8
    assert asyncio.get_running_loop().time() - started < 8 * 5 * 0.1 * 0.7


async def test_bad_settings_and_failures_are_told(loaded: Loaded, tmp_path: Path) -> None:
    await loaded.load(count_package(tmp_path))
    events = [e async for e in stream(loaded.url, text_input="x", max_tokens=-1)]
    assert events == [{"error": "'max_tokens' must be a whole number from 1 to 32768"}]
    events = [e async for e in stream(loaded.url, text_input="fail later")]
    assert events[-1] == {"error": "the model failed: RuntimeError: told to fail"}
    assert len(events) == 3
