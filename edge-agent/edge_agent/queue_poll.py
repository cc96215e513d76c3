"""Asks the engine again and again how many requests wait inside it.

Input: a source that can tell. Output: the queues on the board, which reports take along. While the
source does not answer nothing is known, and that is what is reported.
"""

import asyncio
import logging

from edge_agent.backends.base import BackendError
from edge_agent.backends.engine_queues import QueueSource
from edge_agent.board import Board

log = logging.getLogger(__name__)


class QueuePoll:
    """The poll of one source; `run` never returns."""

    def __init__(self, source: QueueSource, board: Board) -> None:
        self._source = source
        self._board = board
        self._told = ""

    def __repr__(self) -> str:
        return f"QueuePoll({self._source!r}, every {self._source.every_s:g} s)"

    async def run(self) -> None:
        """Ask and show, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._source.every_s)

    async def look(self) -> None:
        """Show what the source tells now."""
        try:
            self._board.queued, told = await self._source.read(), ""
        except BackendError as error:
            self._board.queued, told = {}, str(error)
        if told and told != self._told:
            log.warning("how many requests wait in the engine is not known: %s", told)
        self._told = told
