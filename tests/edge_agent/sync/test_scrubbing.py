"""What rotted on the disk is found, removed, and brought again."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_agent.policy.eviction import Key
from edge_agent.policy.scrub import LOOK_S
from edge_agent.sync.scrubbing import Scrubbed, Scrubber
from edge_agent.sync.shelf import Shelf
from federation.contract.errors import Unavailable
from federation.runtime.clock import SystemClock
from tests.edge_agent.sync.packages import CHUNK, Package

WEEK = timedelta(days=7)
OLD = Package({"a.bin": b"a" * (3 * CHUNK), "b/c.bin": b"bc"}, version=1)
NEW = Package({"a.bin": b"x" * (2 * CHUNK)}, version=2)


class Bringer:
    """Brings packages out of nowhere, unless it is told not to."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.wanted: set[Key] = {OLD.key, NEW.key}
        self.away = False
        self.brought: list[Key] = []

    def wants(self, key: Key) -> bool:
        return key in self.wanted

    async def bring_again(self, key: Key) -> None:
        if self.away:
            raise Unavailable("the origin is away.")
        self.brought.append(key)
        package = {p.key: p for p in (OLD, NEW)}[key]
        await asyncio.to_thread(package.fetch, self.shelf)


class Rig:
    def __init__(self, root: Path) -> None:
        self.root, self.shelf, self.done = root, Shelf(root), Scrubbed()
        OLD.fetch(self.shelf)
        NEW.fetch(self.shelf)
        self.bringer = Bringer(self.shelf)
        self.scrubber = Scrubber(self.shelf, self.bringer, SystemClock(), self.done)

    def age(self, package: Package, days: float) -> None:
        """Let the last check of a package be so long ago."""
        at = SystemClock().utc().timestamp() - days * 86_400
        folder = package.folder(self.root)
        for kind in (".manifest", ".checked"):
            stamp = folder.with_name(folder.name + kind)
            if stamp.exists():
                os.utime(stamp, (at, at))

    def rot(self, package: Package) -> None:
        with (package.folder(self.root) / "a.bin").open("r+b") as file:
            file.seek(CHUNK)
            file.write(b"!")

    async def step(self) -> float:
        return await self.scrubber.step(WEEK)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_what_is_right_is_checked_once_a_week(rig: Rig) -> None:
    assert await rig.step() == LOOK_S  # they are new
    assert rig.done == Scrubbed()
    rig.age(OLD, 8)
    assert await rig.step() == 0.0
    assert rig.done == Scrubbed(checked_bytes=3 * CHUNK + 2)
    assert await rig.step() == LOOK_S
    rig.age(OLD, 7.5)
    rig.age(NEW, 8)
    assert [await rig.step(), await rig.step(), await rig.step()] == [0.0, 0.0, LOOK_S]
    assert rig.done.checked_bytes == 8 * CHUNK + 4
    assert rig.bringer.brought == []


async def test_what_rotted_is_removed_told_and_brought_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.rot(OLD)
    rig.age(OLD, 8)
    await rig.step()
    assert (rig.done.damaged, rig.bringer.brought) == (1, [OLD.key])
    assert OLD.is_at(OLD.folder(rig.root))
    assert "m@1: the package on disk is damaged: 'a.bin' has other bytes." in caplog.text
    assert await rig.step() == LOOK_S


async def test_what_cannot_be_had_now_is_tried_again_while_it_is_wanted(rig: Rig) -> None:
    rig.bringer.away = True
    for package in (OLD, NEW):
        rig.rot(package)
        rig.age(package, 8)
        await rig.step()
    assert rig.shelf.find(*OLD.key) is None
    assert await rig.step() == LOOK_S
    rig.bringer.away = False
    rig.bringer.wanted = {NEW.key}
    await rig.step()
    await rig.step()
    assert rig.bringer.brought == [NEW.key]


async def test_a_failing_disk_says_nothing_about_a_package(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise Unavailable("the disk fails.")

    rig.age(OLD, 8)
    monkeypatch.setattr(rig.shelf, "verify", fail)
    assert await rig.step() == LOOK_S
    assert rig.done.damaged == 0
    assert rig.shelf.find(*OLD.key) is not None


async def test_it_keeps_to_a_rate_and_ends_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, float]] = []

    def slow(done: int, elapsed_s: float) -> float:
        asked.append((done, elapsed_s))
        return 60.0 if done else 0.0

    monkeypatch.setattr("edge_agent.sync.scrubbing.pause_s", slow)
    rig.age(OLD, 8)
    task = asyncio.ensure_future(rig.scrubber.run(7))
    async with asyncio.timeout(10):
        while len(asked) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [done for done, _ in asked] == [0, 3 * CHUNK]
    assert rig.shelf.checks()[0].at < SystemClock().utc().timestamp() - 86_400  # not noted


async def test_it_can_be_turned_off(rig: Rig) -> None:
    rig.age(OLD, 800)
    await rig.scrubber.run(0)
    assert rig.done.checked_bytes == 0


def test_a_package_that_goes_takes_its_stamp_along(rig: Rig) -> None:
    rig.shelf.note_check(*OLD.key)
    folder = OLD.folder(rig.root)
    assert folder.with_name(folder.name + ".checked").exists()
    rig.shelf.remove(*OLD.key)
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith("1-")] == []
    rig.shelf.note_check(*OLD.key)  # it is gone: nothing is left behind
    assert not folder.with_name(folder.name + ".checked").exists()
