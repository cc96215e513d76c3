"""What waits in the engine comes into the reports, and goes when nobody tells any more."""

import logging
from collections.abc import Mapping

import pytest

from edge_agent.backends.base import EngineUnreachable
from edge_agent.board import Board
from edge_agent.policy.events import Key
from edge_agent.queue_poll import QueuePoll
from federation.contract.types import EngineKind, ObservedVersion, VersionState


class Source:
    every_s = 0.01

    def __init__(self) -> None:
        self.told: Mapping[Key, int] | None = {("m", 1): 4}

    async def read(self) -> Mapping[Key, int]:
        if self.told is None:
            raise EngineUnreachable("nobody answers")
        return self.told


def queued(board: Board) -> list[int | None]:
    return [v.queued for v in board.observed(lambda _model, _version: 0).versions]


async def test_what_is_told_is_reported_while_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    board, source = Board(EngineKind.TRITON), Source()
    warm = [
        ObservedVersion(model="m", version=n, digest="d", state=VersionState.WARMED) for n in (1, 2)
    ]
    board.show(1, tuple(warm))
    poll = QueuePoll(source, board)
    assert queued(board) == [None, None]
    await poll.look()
    assert queued(board) == [4, None]
    source.told = None
    with caplog.at_level(logging.WARNING):
        await poll.look()
        await poll.look()
    assert queued(board) == [None, None]
    assert [record.message.count("nobody answers") for record in caplog.records] == [1]
    source.told = {("m", 2): 0}
    await poll.look()
    assert queued(board) == [None, 0]
