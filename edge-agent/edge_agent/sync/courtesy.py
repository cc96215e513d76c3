"""Watches whether this process gets its turns, and lets transfers step back when it does not.

Input: the clock of the event loop, the counts of requests, the bytes that were moved.
Output: a rate for the throttle, ten times a second. `policy.courtesy` decides.
"""

import asyncio
from collections.abc import Callable

from edge_agent.policy.courtesy import Courtesy
from edge_agent.sync.throttle import Throttle

TICK_S = 0.01
_TICKS = 10  # between two looks
_REST_S = 0.25  # how often is looked whether anything moves at all


class Watch:
    """`serving` returns whether requests are in flight now, `begun` how many have been so far: most
    are over before anybody looks."""

    def __init__(
        self,
        throttle: Throttle,
        serving: Callable[[], bool],
        begun: Callable[[], int],
        courtesy: Courtesy | None = None,
    ) -> None:
        self.courtesy = courtesy or Courtesy()
        self._throttle = throttle
        self._serving, self._begun = serving, begun
        self._seen = begun()

    def __repr__(self) -> str:
        return f"Watch({self.courtesy!r})"

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            before = self._moved()
            late_s = await self._lateness()
            moving = self._moved() > before
            rate = self.courtesy.look(
                late_s,
                served=self._served(),
                moving=moving,
                now=asyncio.get_running_loop().time(),
            )
            self._throttle.step_back(rate)
            if not moving:
                await asyncio.sleep(_REST_S)

    def _moved(self) -> int:
        lanes = (self._throttle.origin, self._throttle.peers, self._throttle.upload)
        return sum(lane.total_bytes for lane in lanes)

    async def _lateness(self) -> float:
        """Return how late the worst of a few ticks was."""
        clock, worst_s = asyncio.get_running_loop().time, 0.0
        for _ in range(_TICKS):
            due_s = clock() + TICK_S
            await asyncio.sleep(TICK_S)
            worst_s = max(worst_s, clock() - due_s)
        return worst_s

    def _served(self) -> bool:
        """Return whether any request was in flight since the last call."""
        before, self._seen = self._seen, self._begun()
        return self._seen > before or self._serving()
