import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from federation.demo import main
from federation.demo.processes import group_members
from tests.federation.demo.fakes import idle_demo


async def test_work_ends_early_when_it_is_told_to_stop() -> None:
    stop, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    asyncio.get_running_loop().call_later(0.05, stop.set)
    assert not await main.unless(stop, work())
    assert cancelled.is_set()


async def test_work_that_ends_or_fails_says_so() -> None:
    async def work() -> None:
        return None

    async def fail() -> None:
        raise ValueError("no")

    assert await main.unless(asyncio.Event(), work())
    with pytest.raises(ValueError, match="no"):
        await main.unless(asyncio.Event(), fail())


async def test_the_note_names_routers_sites_and_where_fed_finds_its_context(
    tmp_path: Path,
) -> None:
    async with idle_demo(tmp_path) as demo:
        note, config = main.describe(demo), main.fed_config(demo)
    assert [router["name"] for router in note["routers"]] == ["router-eu", "router-us"]
    assert [site["engine"] for site in note["sites"]] == ["triton", "ray-serve"]
    assert note["pid"] == os.getpid()
    assert config["contexts"]["demo"]["endpoint"] == demo.plan.control_plane_url


def test_ctrl_c_during_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    """The real demo, interrupted as soon as its first process is up."""
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    command = (
        "import sys; from federation.demo.commands import demo;"
        "sys.exit(demo.main(standalone_mode=False))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command, "--engines", "ray=1"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        _until(lambda: list(tmp_path.glob("fed-demo-*.json")))
        directory = Path(read_directory(tmp_path))
        _until(lambda: (directory / "control-plane" / "admin.token").exists())
        children = [child.pid for child in psutil.Process(running.pid).children()]
        groups = [pid for pid in children if os.getpgid(pid) == pid]
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=50)
    assert running.returncode == 130, out
    assert len(groups) >= 3  # watchdog, Ray, control plane
    assert [group_members(group) for group in groups] == [[] for _ in groups]
    assert not directory.exists()
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in out


def read_directory(folder: Path) -> str:
    note = next(folder.glob("fed-demo-*.json"))
    return str(json.loads(note.read_text())["directory"])


def _until(done: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
