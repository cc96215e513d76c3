"""The poll tells what the engine says, within a few seconds, whatever the engine does."""

from collections.abc import AsyncIterator

import pytest

from edge_agent import engine_poll
from edge_agent.backends.base import LoadedVersion
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.board import Board
from edge_agent.engine_poll import EnginePoll
from edge_agent.policy.events import EngineListed, EngineLost, Event
from federation.runtime.clock import ManualClock


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
def board(engine: FakeEngine) -> Board:
    return Board(FakeBackend(engine).kind)


@pytest.fixture
def poll(engine: FakeEngine, board: Board) -> EnginePoll:
    events: list[Event] = []
    return EnginePoll(
        backend=FakeBackend(engine), board=board, emit=events.append, clock=ManualClock()
    )


async def test_an_engine_that_answers(engine: FakeEngine, poll: EnginePoll, board: Board) -> None:
    await engine.load(LoadedVersion(model="m", version=2, digest="d"))
    told = await poll.ask()
    assert isinstance(told, EngineListed)
    assert [(v.model, v.version, v.digest) for v in told.loaded] == [("m", 2, "d")]
    assert (told.identity, told.asked_s) == ("start-1", 0.0)
    assert (board.engine.ready, board.engine.version) == (True, "fake")


async def test_an_engine_that_is_gone(engine: FakeEngine, poll: EnginePoll, board: Board) -> None:
    await poll.ask()
    await engine.stop()
    assert await poll.ask() == EngineLost(reason="the engine does not answer")
    assert (board.engine.ready, board.engine.version) == (False, "fake")


async def test_an_engine_that_hangs(
    engine: FakeEngine, poll: EnginePoll, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_poll, "DEADLINE_S", 0.05)
    engine.hang()
    told = await poll.ask()
    assert isinstance(told, EngineLost)
    assert "did not answer within" in told.reason
    assert board.engine.reason == told.reason
