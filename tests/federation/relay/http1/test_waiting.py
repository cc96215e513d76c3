import asyncio
import socket
import time
from typing import Any

import pytest

from federation.relay.http1.waiting import NEVER, Alarm, Drive, Pause, in_task

Ended = list[tuple[Any, BaseException | None]]


def driven(coro: Any) -> tuple[Drive, Ended]:
    ended: Ended = []
    drive = Drive(coro, lambda *how: ended.append(how), asyncio.get_running_loop())
    drive.step()
    return drive, ended


async def test_a_coroutine_that_waits_for_nothing_ends_at_once() -> None:
    async def answer() -> int:
        return 7

    assert driven(answer())[1] == [(7, None)]


async def test_one_that_waits_goes_on_in_the_call_that_wakes_it() -> None:
    pause = Pause(asyncio.get_running_loop())

    async def answer() -> str:
        await pause
        return "done"

    drive, ended = driven(answer())
    assert not ended
    assert "driven" in repr(drive)
    pause.wake()
    pause.wake()
    assert ended == [("done", None)]
    assert drive.task is None


async def test_errors_come_out_where_it_waits() -> None:
    pause = Pause(asyncio.get_running_loop())

    async def answer() -> str:
        try:
            await pause
        except TimeoutError:
            return "late"
        return "never"

    _, ended = driven(answer())
    pause.wake(TimeoutError())
    assert ended == [("late", None)]


async def test_cancelling_reaches_it_where_it_waits_and_its_finally_runs() -> None:
    cleaned: list[str] = []

    async def answer() -> None:
        try:
            await Pause(asyncio.get_running_loop())
        finally:
            cleaned.append("yes")

    drive, ended = driven(answer())
    drive.cancel()
    assert cleaned == ["yes"]
    assert isinstance(ended[0][1], asyncio.CancelledError)


async def test_who_waits_for_anything_of_asyncios_becomes_a_task() -> None:
    future = asyncio.get_running_loop().create_future()
    pause = Pause(asyncio.get_running_loop())

    async def answer() -> str:
        first = await future
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        await pause
        return f"{first}!"

    drive, ended = driven(answer())
    assert drive.task is not None
    future.set_result("hello")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ended
    pause.wake()
    await drive.task
    await asyncio.sleep(0)
    assert ended == [("hello!", None)]


async def test_a_task_is_cancelled_like_any_other() -> None:
    async def answer() -> None:
        await in_task()
        async with asyncio.timeout(10):
            await Pause(asyncio.get_running_loop())

    drive, ended = driven(answer())
    await asyncio.sleep(0)
    drive.cancel()
    with pytest.raises(asyncio.CancelledError):
        await (drive.task or asyncio.sleep(0))
    await asyncio.sleep(0)
    assert isinstance(ended[0][1], asyncio.CancelledError)


async def test_errors_of_either_kind_are_told() -> None:
    async def at_once() -> None:
        raise ValueError("now")

    async def later() -> None:
        await asyncio.sleep(0)
        raise ValueError("later")

    assert str(driven(at_once())[1][0][1]) == "now"
    drive, ended = driven(later())
    with pytest.raises(ValueError, match="later"):
        await (drive.task or asyncio.sleep(0))
    await asyncio.sleep(0)
    assert str(ended[0][1]) == "later"


async def test_an_ordinary_task_may_wait_too_and_be_cancelled() -> None:
    loop = asyncio.get_running_loop()
    for wake, expected in ((None, "done"), (OSError("x"), "failed")):
        pause = Pause(loop)

        async def wait(pause: Pause = pause) -> str:
            try:
                await pause
            except OSError:
                return "failed"
            return "done"

        task = loop.create_task(wait())
        await asyncio.sleep(0)
        pause.wake(wake)
        assert await task == expected


async def test_an_ordinary_task_that_waits_can_be_cancelled() -> None:
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        await Pause(loop)

    task = loop.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_after_a_standstill_what_came_meanwhile_is_read_before_an_alarm_rings() -> None:
    uvloop = pytest.importorskip("uvloop")  # it looks at its timers first

    async def story() -> list[str]:
        loop, told, rung = asyncio.get_running_loop(), list[str](), asyncio.Event()
        here, there = socket.socketpair()
        start, stop = socket.socketpair()

        def ring() -> None:
            told.append("rung")
            rung.set()

        def stand_still() -> None:
            start.recv(9)
            alarm.set(0.01)
            there.send(b"x")
            time.sleep(0.1)

        alarm = Alarm(loop, ring)
        loop.add_reader(here, lambda: told.append(f"read {len(here.recv(9))}"))
        loop.add_reader(start, stand_still)
        try:
            stop.send(b"now")
            async with asyncio.timeout(5):
                await rung.wait()
        finally:
            alarm.close()
            for each in (here, start, there, stop):
                loop.remove_reader(each)
                each.close()
        return told

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(story()) == ["read 1", "rung"]


async def test_an_alarm_rings_once_at_the_last_deadline_that_was_set() -> None:
    loop, rung = asyncio.get_running_loop(), []
    alarm = Alarm(loop, lambda: rung.append(loop.time()))
    began = loop.time()
    alarm.set(0.01)
    alarm.set(0.1)
    async with asyncio.timeout(10):
        while not rung:
            await asyncio.sleep(0.005)
    assert rung[0] - began >= 0.095
    alarm.set(0.01)
    alarm.clear()
    await asyncio.sleep(0.05)
    alarm.set(0.01)
    alarm.close()
    await asyncio.sleep(0.05)
    assert len(rung) == 1


async def test_an_alarm_is_set_at_a_moment_and_cleared_without_a_call() -> None:
    loop, rung = asyncio.get_running_loop(), []
    alarm = Alarm(loop, lambda: rung.append(loop.time()))
    alarm.set_at(loop.time() + 0.01)
    alarm.due_s = NEVER
    await asyncio.sleep(0.05)
    assert not rung
    due_s = loop.time() + 0.05
    alarm.set_at(due_s)
    async with asyncio.timeout(10):
        while not rung:
            await asyncio.sleep(0.005)
    assert rung[0] >= due_s - 0.005
    alarm.close()
