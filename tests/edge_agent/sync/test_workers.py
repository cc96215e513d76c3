"""Threads end before `end` returns, whether they run or wait in the queue."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from edge_agent.sync.cancel import Cancel
from edge_agent.sync.workers import Workers, end, first_done


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers(2)
    yield workers
    await workers.close()


async def test_end_waits_for_those_that_run_and_forgets_the_others(workers: Workers) -> None:
    cancel, ran = Cancel(), []

    began = threading.Barrier(3)

    def work() -> None:
        ran.append("began")
        with cancel.waking(lambda: None):
            began.wait(10)
            while not cancel.is_set:
                time.sleep(0.01)
        time.sleep(0.1)
        ran.append("ended")

    works = [workers.start("p", work) for _ in range(6)]
    await asyncio.to_thread(began.wait, 10)
    await end(cancel, works)
    assert sorted(ran) == ["began"] * 2 + ["ended"] * 2
    assert all(work.future.done() for work in works)


async def test_end_waits_also_when_its_waiting_is_cancelled(workers: Workers) -> None:
    cancel, began, ended = Cancel(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        time.sleep(0.3)
        ended.set()

    works = [workers.start("p", work)]
    assert await asyncio.to_thread(began.wait, 10)
    task = asyncio.ensure_future(end(cancel, works))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_a_thread_raises_is_in_its_future(workers: Workers) -> None:
    def fails() -> None:
        raise KeyError("x")

    over = threading.Event()

    def lasts() -> None:
        over.wait(10)

    work, lasting = workers.start("a", fails), workers.start("b", lasts)
    assert await first_done([work, lasting]) == [work]
    over.set()
    with pytest.raises(KeyError):
        work.future.result()
    await end(Cancel(), [lasting])
    await end(Cancel(), [])
