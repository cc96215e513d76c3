"""A failed task is told, counted and started again; stopping stops."""

import asyncio
import logging
import os
import signal

import pytest

from federation.runtime.backoff import Backoff
from federation.runtime.supervise import Supervisor, stop_on_signals


async def test_a_failing_task_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    calls, done = 0, asyncio.Event()

    async def flaky() -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise RuntimeError("on purpose")
        done.set()

    supervisor = Supervisor(backoff=Backoff(first_s=0.001, cap_s=0.002))
    with caplog.at_level(logging.ERROR):
        supervisor.start("flaky", flaky)
        await asyncio.wait_for(done.wait(), 5)
    await supervisor.stop()
    assert supervisor.restarts == {"flaky": 2}
    assert "on purpose" in caplog.text
    assert "restarts={'flaky': 2}" in repr(supervisor)


async def test_stop_cancels_and_waits() -> None:
    cleaned = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned.set()

    supervisor = Supervisor()
    supervisor.start("forever", forever)
    await asyncio.sleep(0)
    await supervisor.stop()
    assert cleaned.is_set()


async def test_a_name_is_used_once() -> None:
    async def nothing() -> None:
        return

    supervisor = Supervisor()
    supervisor.start("a", nothing)
    with pytest.raises(ValueError, match="two tasks named 'a'"):
        supervisor.start("a", nothing)
    await supervisor.stop()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_signals_set_the_event(name: signal.Signals) -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), name)
        await asyncio.wait_for(stop.wait(), 5)
