"""Threads for blocking transfers, and their orderly end.

Input: functions that block. Output: futures that asyncio can wait for; `end` returns only when none
of them runs any more.
"""

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor

from edge_agent.sync.cancel import Cancel
from federation.runtime.background import step_behind


class Work:
    """One call on a worker thread. `future` is the one to wait for."""

    def __init__(self, call: Future[None]) -> None:
        self._call = call
        self.future = asyncio.wrap_future(call)

    def __repr__(self) -> str:
        return f"Work({self._call})"

    def forget(self) -> None:
        """Take it out of the queue if no thread has begun with it."""
        self._call.cancel()  # not self.future.cancel(): that succeeds while the thread runs


class Workers:
    """Pools of `threads` threads by name, made when first used."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def __repr__(self) -> str:
        return f"Workers({sorted(self._pools)}, {self._threads} each)"

    def start(self, pool: str, call: Callable[[], None]) -> Work:
        """Have a thread of a pool make this call."""
        if pool not in self._pools:
            self._pools[pool] = ThreadPoolExecutor(
                self._threads, thread_name_prefix=pool, initializer=step_behind
            )
        return Work(self._pools[pool].submit(call))

    async def close(self) -> None:
        """Wait for the threads to end."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await asyncio.to_thread(pool.shutdown)


async def first_done(works: Collection[Work]) -> list[Work]:
    """Wait until at least one is done; return those that are."""
    await asyncio.wait([work.future for work in works], return_when=asyncio.FIRST_COMPLETED)
    return [work for work in works if work.future.done()]


async def end(cancel: Cancel, works: Collection[Work]) -> None:
    """Cancel, and wait until no thread is at these any more, also if the waiting is cancelled."""
    if not works:
        return
    cancel.set()
    for work in works:
        work.forget()
    left = {work.future for work in works}
    cancelled: asyncio.CancelledError | None = None
    while left:
        try:
            _, left = await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
    for work in works:  # what they raised is not news any more
        if not work.future.cancelled():
            work.future.exception()
    if cancelled is not None:
        raise cancelled
