"""Calls that hang, fail or answer."""

import asyncio
import threading

import pytest

from edge_agent.inventory.bounded import BoundedCall


async def test_answers_and_errors_come_through() -> None:
    assert await BoundedCall("quick", lambda: 7).ask(5) == 7

    def fail() -> int:
        raise KeyError("no")

    failing = BoundedCall("failing", fail)
    for _ in range(2):
        with pytest.raises(KeyError):
            await failing.ask(5)
    assert not failing.pending


async def test_a_call_that_hangs_is_not_made_twice() -> None:
    free, calls = threading.Event(), list[int]()

    def hang() -> int:
        calls.append(1)
        free.wait(10)
        return len(calls)

    call = BoundedCall("hanging", hang)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await call.ask(0.01)
    assert repr(call) == "BoundedCall(hanging, pending)"
    free.set()
    assert await call.ask(5) == 1
    assert await call.ask(5) == 2


async def test_a_cancelled_question_leaves_the_call_alone() -> None:
    free = threading.Event()
    call = BoundedCall("hanging", lambda: free.wait(10))
    task = asyncio.get_running_loop().create_task(call.ask(5))
    while not call.pending:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    free.set()
    assert await call.ask(5) is True
