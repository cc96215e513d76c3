"""Golden inputs, asked at an engine with a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.backends.base import LoadedVersion, StagedVersion
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.board import Board
from edge_agent.golden import GoldenAsker
from federation.contract.package import Golden, ModelPackage, TensorSpec
from federation.contract.rollout import GoldenResult
from federation.contract.types import (
    AssignedVersion,
    Assignment,
    EngineKind,
    ModelProtocol,
    ObservedVersion,
    Runtime,
    VersionState,
)
from federation.runtime.clock import Clock, ManualClock, SystemClock

X = TensorSpec(name="x", datatype="FP32", shape=(-1, 2))
SEEN = ObservedVersion(model="m", version=1, digest="d", state=VersionState.WARMED)
RIGHT = {"inputs": {"x": [1, 2]}, "outputs": {"x": [1, 2]}}  # the engine echoes
WRONG = {"inputs": {"x": [1, 2]}, "outputs": {"x": [1, 3]}}


def staged_of(folder: Path, lines: list[dict[str, Any]], protocol: ModelProtocol) -> StagedVersion:
    (folder / "golden.jsonl").write_text("\n".join(map(json.dumps, lines)))
    package = ModelPackage(
        name="m",
        runtime=Runtime.PYTHON,
        protocol=protocol,
        inputs=(X,),
        golden=Golden(file="golden.jsonl"),
    )
    return StagedVersion(model="m", version=1, digest="d", directory=folder, package=package)


@asynccontextmanager
async def asking(
    staged: StagedVersion, clock: Clock | None = None
) -> AsyncIterator[tuple[FakeEngine, GoldenAsker]]:
    engine = FakeEngine()
    await engine.start()
    await engine.load(
        LoadedVersion(model="m", version=1, digest="d", protocol=staged.package.protocol)
    )
    backend, board = FakeBackend(engine), Board(EngineKind.TRITON)
    board.show(1, (SEEN,))
    asker = GoldenAsker(
        backend=backend,
        board=board,
        staged=lambda _model, _version: staged,
        clock=clock or SystemClock(),
    )
    task = asyncio.ensure_future(asker.run())
    try:
        yield engine, asker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await backend.close()
        await engine.stop()


async def outcome(staged: StagedVersion) -> GoldenResult:
    async with asking(staged) as (_, asker), asyncio.timeout(10):
        heard = asyncio.Event()
        asker.on_news.append(heard.set)
        await heard.wait()
        result = asker.result(SEEN)
        assert result is not None
        assert "1 asked" in repr(asker)
        return result


async def test_what_is_answered_rightly_and_wrongly(tmp_path: Path) -> None:
    result = await outcome(staged_of(tmp_path, [RIGHT, WRONG], ModelProtocol.TENSOR))
    assert (result.inputs, result.wrong) == (2, 1)
    assert result.words == "line 2: output 'x'[1] is 2, not 3"


async def test_text_is_asked_as_a_stream(tmp_path: Path) -> None:
    lines = [{"prompt": "one two", "contains": "one"}, {"prompt": "one two", "text": "three"}]
    result = await outcome(staged_of(tmp_path, lines, ModelProtocol.TEXT))
    assert (result.inputs, result.wrong) == (2, 1)
    assert result.words.startswith("line 2: it answered ")


async def test_an_engine_that_fails_answers_wrongly(tmp_path: Path) -> None:
    staged = staged_of(tmp_path, [RIGHT], ModelProtocol.TENSOR)
    async with asking(staged) as (engine, asker), asyncio.timeout(10):
        engine.crashed.add(("m", 1))
        heard = asyncio.Event()
        asker.on_news.append(heard.set)
        await heard.wait()
        result = asker.result(SEEN)
        assert result is not None
        assert result.wrong == 1
        assert result.words.startswith("line 1: it failed: ")


async def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    staged = staged_of(tmp_path, [{"inputs": 1}], ModelProtocol.TENSOR)
    result = await outcome(staged)
    assert result.wrong == 1
    assert "golden.jsonl line 1" in result.words


async def test_a_package_without_any_is_not_asked(tmp_path: Path) -> None:
    staged = staged_of(tmp_path, [RIGHT], ModelProtocol.TENSOR)
    bare = replace(staged, package=replace(staged.package, golden=None))
    async with asking(bare) as (engine, asker):
        await asyncio.sleep(0.3)
        assert asker.result(SEEN) is None
        assert not engine.requests


async def test_an_engine_that_is_away_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.golden._RETRY_S", 0.01)
    staged = staged_of(tmp_path, [RIGHT], ModelProtocol.TENSOR)
    async with asking(staged) as (engine, asker), asyncio.timeout(10):
        await engine.stop()
        await asyncio.sleep(0.05)
        assert asker.result(SEEN) is None
        await engine.start()
        await engine.load(LoadedVersion(model="m", version=1, digest="d"))
        while (result := asker.result(SEEN)) is None:
            await asyncio.sleep(0.01)
        assert result == GoldenResult(inputs=1, wrong=0)


ASKED_AGAIN = Assignment(
    cluster="c",
    generation=1,
    versions=(AssignedVersion(model="m", version=1, digest="d", golden_every_s=300),),
)


async def test_an_engine_that_decays_is_found_out_when_it_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.golden.LOOK_S", 0.005)
    staged, clock = staged_of(tmp_path, [RIGHT], ModelProtocol.TENSOR), ManualClock()
    async with asking(staged, clock) as (engine, asker), asyncio.timeout(10):
        heard: asyncio.Queue[GoldenResult | None] = asyncio.Queue()
        asker.on_news.append(lambda: heard.put_nowait(asker.result(SEEN)))
        asker.assigned(ASKED_AGAIN)
        assert await heard.get() == GoldenResult(inputs=1, wrong=0)
        engine.crashed.add(("m", 1))
        clock.advance(299)
        await asyncio.sleep(0.05)
        assert heard.empty()
        clock.advance(1)
        result = await heard.get()
        assert result is not None
        assert result.wrong == 1
        assert result.words.startswith("asked again, line 1: it failed: ")


async def test_a_canary_that_has_too_much_to_do_is_not_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.golden.LOOK_S", 0.005)
    monkeypatch.setattr("edge_agent.golden._RETRY_S", 0.005)
    staged, clock = staged_of(tmp_path, [RIGHT], ModelProtocol.TENSOR), ManualClock()
    async with asking(staged, clock) as (engine, asker), asyncio.timeout(10):
        asker.assigned(ASKED_AGAIN)
        while asker.result(SEEN) is None:
            await asyncio.sleep(0.005)
        monkeypatch.setattr("edge_agent.golden._BUSY", frozenset({500}))  # what a crash answers
        engine.crashed.add(("m", 1))
        clock.advance(300)
        asked = engine.requests.total()
        while engine.requests.total() == asked:
            await asyncio.sleep(0.005)
        assert asker.result(SEEN) == GoldenResult(inputs=1, wrong=0)
