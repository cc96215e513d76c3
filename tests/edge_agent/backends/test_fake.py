"""The fault switches of the fake; what it does without faults is in tests/contract."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from edge_agent.backends.base import (
    BackendError,
    EngineUnreachable,
    LoadedVersion,
    StagedVersion,
    Verb,
)
from edge_agent.backends.fake import FakeBackend, FakeEngine
from federation.contract.types import EngineKind, ModelProtocol
from tests.contract.backends import stage

TEXT = ModelProtocol.TEXT
TEXT_PACKAGE = "{{name: {model}, runtime: python, protocol: text, warmup: {{prompt: hi}}}}"


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def backend(engine: FakeEngine) -> AsyncIterator[FakeBackend]:
    backend = FakeBackend(engine, kind=EngineKind.RAY_SERVE)
    yield backend
    await backend.close()


@pytest.fixture
def text(tmp_path: Path) -> StagedVersion:
    return stage(tmp_path, "talk", 1, {"model.py": ""}, TEXT_PACKAGE)


def url_of(backend: FakeBackend, verb: Verb) -> str:
    route = backend.route("talk", 1, verb, TEXT)
    assert route is not None
    return route.url


async def test_a_crashed_worker_is_healed_only_by_unload_and_load(
    engine: FakeEngine, backend: FakeBackend, text: StagedVersion
) -> None:
    await backend.load(text)
    engine.crashed.add(("talk", 1))
    assert len(await backend.loaded()) == 1
    with pytest.raises(BackendError, match="500"):
        await backend.warm_up(text)
    await backend.load(text)
    with pytest.raises(BackendError):
        await backend.warm_up(text)
    await backend.unload("talk", 1)
    await backend.load(text)
    await backend.warm_up(text)
    assert (engine.loads["talk", 1], engine.unloads["talk", 1]) == (3, 1)
    assert backend.kind is EngineKind.RAY_SERVE


async def test_text_comes_back_word_by_word(backend: FakeBackend, text: StagedVersion) -> None:
    await backend.load(text)
    async with aiohttp.ClientSession() as session:
        for verb, body in (
            (Verb.GENERATE_STREAM, {"text_input": "to be or"}),
            (Verb.COMPLETIONS, {"prompt": "to be or", "stream": True}),
            (Verb.CHAT, {"messages": [{"role": "user", "content": "to be or"}], "stream": True}),
        ):
            async with session.post(url_of(backend, verb), json=body) as response:
                events = [e for e in (await response.text()).split("\n\n") if e]
            assert len([e for e in events if "[DONE]" not in e]) == 3
        async with session.post(
            url_of(backend, Verb.CHAT), json={"messages": [{"content": "x"}]}
        ) as r:
            assert (await r.json())["choices"][0]["message"]["content"] == "x"


async def test_a_client_that_leaves_ends_the_stream(
    engine: FakeEngine, backend: FakeBackend, text: StagedVersion
) -> None:
    await backend.load(text)
    engine.infer_s = 0.02
    body = json.dumps({"text_input": "word " * 1000})
    url = url_of(backend, Verb.GENERATE_STREAM)
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
        await response.content.readline()
        response.close()
    async with asyncio.timeout(5):
        while not engine.abandoned:
            await asyncio.sleep(0.01)


async def test_a_frozen_engine_answers_after_it_wakes(
    engine: FakeEngine, backend: FakeBackend, text: StagedVersion
) -> None:
    await backend.load(text)
    engine.hang()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await backend.loaded()
    engine.resume()
    assert await backend.loaded() == (
        LoadedVersion(model="talk", version=1, digest=text.digest, protocol=TEXT),
    )


async def test_binary_tensors_and_bad_requests(
    backend: FakeBackend, engine: FakeEngine, tmp_path: Path
) -> None:
    await backend.load(stage(tmp_path, "echo", 1, {}))
    url = f"{engine.url}/v2/models/echo--v1/infer"
    head = json.dumps({"id": "7", "inputs": [{"name": "X"}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=head + b"\x01\x02", headers=headers) as response:
            answer = await response.read()
            length = int(response.headers["Inference-Header-Content-Length"])
        async with session.post(url, data=b"{") as bad:
            assert bad.status == 400
    assert answer[length:] == b"\x01\x02"
    assert json.loads(answer[:length])["id"] == "7"


async def test_it_comes_back_on_the_same_port(engine: FakeEngine, backend: FakeBackend) -> None:
    url, identity = engine.url, engine.identity
    await engine.stop()
    with pytest.raises(EngineUnreachable):
        await backend.unload("talk", 1)
    await engine.start()
    assert engine.url == url
    assert engine.identity != identity
    assert repr(backend) == f"FakeBackend(FakeEngine({url}, up, []))"
