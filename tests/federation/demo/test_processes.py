import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from federation.demo.processes import Command, Processes, group_members, processes_that_mention

# A parent with a child in the same group; the child ignores SIGTERM, as a stuck engine would.
_FAMILY = (
    "import signal, subprocess, sys, time;"
    "subprocess.Popen([sys.executable, '-c', 'import signal, time;"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)']);"
    "print('up', flush=True); time.sleep(600)"
)


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    made = Processes(tmp_path)
    yield made
    await made.stop([])


def _family(name: str = "family", grace_s: float = 0.5) -> Command:
    return Command(name=name, argv=(sys.executable, "-c", _FAMILY), grace_s=grace_s)


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not done():
            await asyncio.sleep(0.02)


async def _group_of(processes: Processes, name: str = "family") -> int:
    await _until(lambda: "up" in processes.tail(name))
    process = processes[name].process
    assert process is not None
    await _until(lambda: len(group_members(process.pid)) == 2)
    return process.pid


async def test_one_that_is_killed_starts_again_and_its_children_are_gone(
    processes: Processes,
) -> None:
    keeper = processes.start(_family())
    first = await _group_of(processes)
    os.kill(first, signal.SIGKILL)  # the leader alone, from outside
    await _until(lambda: keeper.starts == 2)
    assert group_members(first) == []
    assert keeper.exits == [-signal.SIGKILL]


async def test_one_that_is_held_stays_down_until_it_is_released(processes: Processes) -> None:
    keeper = processes.start(_family())
    group = await _group_of(processes)
    await keeper.kill(hold=True)
    assert group_members(group) == []
    await asyncio.sleep(1.3)
    assert keeper.starts == 1
    assert keeper.held
    keeper.release()
    await _until(lambda: keeper.starts == 2)


async def test_stop_leaves_nothing_even_of_children_that_ignore_the_signal(
    processes: Processes,
) -> None:
    processes.start(_family("one"))
    processes.start(_family("two", grace_s=0))
    groups = [await _group_of(processes, name) for name in ("one", "two")]
    await processes.stop([lambda name: name == "two"])
    assert [group_members(group) for group in groups] == [[], []]
    assert "one" not in processes


async def test_stop_right_after_start_leaves_nothing(processes: Processes) -> None:
    before = {child.pid for child in psutil.Process().children()}
    processes.start(_family())
    await asyncio.sleep(0)
    await processes.stop([])
    left = [c for c in psutil.Process().children() if c.pid not in before]
    assert [c for c in left if c.status() != psutil.STATUS_ZOMBIE] == []


async def test_two_of_one_name_are_refused(processes: Processes) -> None:
    processes.start(_family())
    with pytest.raises(ValueError, match="two processes named 'family'"):
        processes.start(_family())


async def test_a_program_that_does_not_exist_is_told_and_not_retried(processes: Processes) -> None:
    keeper = processes.start(Command(name="gone", argv=("/nowhere/at-all",)))
    await _until(lambda: keeper.failure != "")
    assert "/nowhere/at-all" in keeper.failure


def test_a_process_that_left_its_group_is_found_by_its_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", f"--state={tmp_path}/x"]
    with subprocess.Popen(command, start_new_session=True) as runaway:
        _wait_until(lambda: processes_that_mention(tmp_path) == [runaway.pid])
        runaway.kill()
    assert processes_that_mention(tmp_path) == []


_HOST = """
import asyncio, sys
from pathlib import Path
from federation.demo.processes import Command, Processes
async def main():
    processes = Processes(Path(sys.argv[1]))
    await processes.guard()
    keeper = processes.start(Command(name="child", argv=("sleep", "600")))
    while keeper.process is None:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    print(keeper.process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_killing_the_demo_itself_leaves_no_process_and_no_directory(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", _HOST, str(directory)], stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        group = int(host.stdout.readline())
        assert group_members(group) == [group]
        host.kill()
    _wait_until(lambda: group_members(group) == [])
    _wait_until(lambda: not directory.exists())


def _wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
