"""Named long-lived tasks: when one stops, everyone hears of it.

Input: coroutine functions with names. Output: runs until `stop` is set or a task fails for good.
An unexpected exception is logged with its traceback and counted; the task starts again with a
backoff, unless it fails too often. No loop swallows.
"""

import asyncio
import contextlib
import logging
import random
import signal
from collections.abc import Awaitable, Callable, Iterator

from federation.runtime.backoff import Backoff, Dice

log = logging.getLogger(__name__)


class Supervisor:
    """Runs named tasks and restarts those that fail; `restarts` counts, by name."""

    def __init__(self, *, backoff: Backoff | None = None, dice: Dice | None = None) -> None:
        self._backoff = backoff or Backoff(first_s=0.5, cap_s=15.0)
        self._dice = dice or random.Random()  # noqa: S311
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.restarts: dict[str, int] = {}

    def __repr__(self) -> str:
        restarted = {n: c for n, c in self.restarts.items() if c}
        return f"Supervisor(tasks={sorted(self._tasks)}, restarts={restarted})"

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Start `run` as a task; it is called again whenever it raises, until stop()."""
        if name in self._tasks:
            raise ValueError(f"two tasks named {name!r}")
        self.restarts[name] = 0
        self._tasks[name] = asyncio.get_running_loop().create_task(self._keep(name, run), name=name)

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await run()
            except asyncio.CancelledError:
                raise
            except Exception:
                if asyncio.get_running_loop().time() - started > 60:
                    failures = 0
                failures += 1
                self.restarts[name] += 1
                delay_s = self._backoff.delay_s(failures, self._dice)
                log.exception("task %s failed; it starts again in %.1f s", name, delay_s)
                await asyncio.sleep(delay_s)
            else:
                return

    async def stop(self) -> None:
        """Cancel all tasks, newest first, and wait for them."""
        for task in reversed(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """Yield an event that SIGINT or SIGTERM sets; the handlers are removed on leaving."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    names = (signal.SIGINT, signal.SIGTERM)
    for name in names:
        loop.add_signal_handler(name, stop.set)
    try:
        yield stop
    finally:
        for name in names:
            loop.remove_signal_handler(name)
