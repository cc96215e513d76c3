"""The serving app behind a real Ray Serve: tensors, streams and their end."""

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
import tritonclient.http.aio as triton

from tests.engines.loaded import PAUSE_S, LoadedModels
from tests.engines.ray import RayCluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def tokens_made(notes: Path) -> int:
    return len(notes.read_text().split())


async def settled(notes: Path) -> int:
    """Return how many tokens were made once no more are."""
    before = -1
    while before != (now := tokens_made(notes)):
        before = now
        await asyncio.sleep(4 * PAUSE_S)
    return now


@pytest.fixture
def text_url(ray_cluster: RayCluster, ray_models: LoadedModels) -> str:
    return f"{ray_cluster.serve_url}/count--v1"


async def test_tritonclient_gets_binary_tensors(
    ray_cluster: RayCluster, ray_models: LoadedModels
) -> None:
    base = f"{ray_cluster.serve_url.removeprefix('http://')}/add--v1"
    async with triton.InferenceServerClient(base) as client:
        assert await client.is_model_ready("add")  # it never reads the body: not as the last thing
        words = triton.InferInput("words", [1, 1], "BYTES")
        words.set_data_from_numpy(np.array([[b"\xc3\xa4\x00"]], dtype=object))
        x = triton.InferInput("x", [1, 2], "FP32")
        x.set_data_from_numpy(np.ones((1, 2), np.float32))
        result = await client.infer("add", [x, words], model_version="1")
        assert result.as_numpy("y").tolist() == [[2, 2]]
        assert result.as_numpy("upper").tolist() == [[b"\xc3\xa4\x00"]]


async def test_the_openai_sdk_streams(text_url: str) -> None:
    messages: Any = [{"role": "user", "content": "one two"}]
    async with openai.AsyncOpenAI(base_url=f"{text_url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="count", messages=messages, max_tokens=6, stream=True
        )
        times, texts = [], []
        async for chunk in stream:
            times.append(time.monotonic())
            texts.append(chunk.choices[0].delta.content or "")
    assert "".join(texts) == "0 1 2 3 4 5 "
    assert times[-1] - times[0] > 3 * PAUSE_S  # the first came long before the last was made


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_ends_the_generation(
    text_url: str, ray_models: LoadedModels, stream: bool
) -> None:
    before = await settled(ray_models.notes)
    body = {"prompt": "go", "max_tokens": 1000, "stream": stream}
    async with aiohttp.ClientSession() as session:
        try:
            async with asyncio.timeout(10 * PAUSE_S):
                async with session.post(f"{text_url}/v1/completions", json=body) as answer:
                    seen = 0
                    async for _ in answer.content:
                        seen += 1
                        if seen > 6:
                            break
        except TimeoutError:
            pass
    left = tokens_made(ray_models.notes)
    assert await settled(ray_models.notes) - left <= 4
    assert left - before < 40


async def test_bad_requests_and_unknown_paths(text_url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{text_url}/v1/completions", json={"prompt": 3}) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["param"] == "prompt"
        async with session.get(f"{text_url}/v2/models/other") as answer:
            assert answer.status == 404
            assert "only 'count' version 1" in (await answer.json())["error"]
