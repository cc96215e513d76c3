"""Asks the engine about once a second how it is and what it has loaded.

Input: a backend. Output: EngineListed or EngineLost into the agent's inbox, and the engine's status
on the board. An engine that restarted, forgot a model or hangs is noticed here.
"""

import asyncio
from collections.abc import Callable

from edge_agent.backends.base import Backend, BackendError, LoadedVersion
from edge_agent.board import Board
from edge_agent.policy.events import EngineListed, EngineLost, Event, Listed
from federation.contract.types import EngineStatus
from federation.runtime.clock import Clock

POLL_S = 1.0
DEADLINE_S = 3.0


class EnginePoll:
    """The poll of one engine; `run` never returns."""

    def __init__(
        self,
        *,
        backend: Backend,
        board: Board,
        emit: Callable[[Event], None],
        clock: Clock,
        interval_s: float = POLL_S,
    ) -> None:
        self._backend = backend
        self._board = board
        self._emit = emit
        self._clock = clock
        self._interval_s = interval_s

    def __repr__(self) -> str:
        return f"EnginePoll({self._backend!r}, every {self._interval_s:g} s)"

    async def run(self) -> None:
        """Ask and tell, for ever."""
        while True:
            self._emit(await self.ask())
            await asyncio.sleep(self._interval_s)

    async def ask(self) -> EngineListed | EngineLost:
        """Return what the engine answers now, within a few seconds."""
        asked_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(DEADLINE_S):
                status = await self._backend.status()
                if status.ready:
                    identity = await self._backend.identity()
                    loaded = await self._backend.loaded()
                    self._board.engine = status
                    listed = tuple(_listed(version) for version in loaded)
                    return EngineListed(identity=identity, loaded=listed, asked_s=asked_s)
                reason = status.reason or "the engine is not ready"
        except TimeoutError:
            reason = f"the engine did not answer within {DEADLINE_S:.0f} seconds"
        except BackendError as error:
            reason = str(error) or "the engine does not answer"
        was = self._board.engine
        self._board.engine = EngineStatus(kind=was.kind, version=was.version, reason=reason)
        return EngineLost(reason=reason)


def _listed(version: LoadedVersion) -> Listed:
    return Listed(
        model=version.model,
        version=version.version,
        digest=version.digest,
        protocol=version.protocol,
        replicas=version.replicas,
    )
