"""Phases on disk: what is there after a crash at any point, and who is told."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from federation.contract.errors import Conflict, Invalid
from federation.identity.authority import Authority
from federation.identity.rollover import PHASES_FILE, Rollover
from federation.policy.roots import RootPhase
from federation.runtime.clock import Clock, ManualClock, SystemClock
from tests.pki import TRUST_DOMAIN

LIFE = timedelta(hours=1)
GRACE = timedelta(days=2)


def opened(directory: Path, clock: Clock, life: timedelta = LIFE) -> tuple[Authority, Rollover]:
    authority = Authority(directory / "ca", trust_domain=TRUST_DOMAIN, clock=clock, leaf_life=life)
    rollover = Rollover(
        authority,
        directory=directory / "ca",
        bundle_file=directory / "ca.pem",
        clock=clock,
        renew_grace=GRACE,
    )
    return authority, rollover


def phases(rollover: Rollover) -> list[RootPhase]:
    return [view.phase for view in rollover.views()]


def test_a_rotation_from_its_order_to_its_end(tmp_path: Path) -> None:
    clock = ManualClock()
    authority, rollover = opened(tmp_path, clock)
    told: list[tuple[str, ...]] = []
    rollover.on_change.append(lambda: told.append(rollover.bundle()))
    first, pin = authority.signing, rollover.active_pin
    second = rollover.rotate()
    assert (authority.signing, rollover.active_pin) == (first, pin)
    assert [len(bundle) for bundle in told] == [2]
    with pytest.raises(Conflict):
        rollover.rotate()
    assert len(authority.roots) == 2  # the refusal made no files
    clock.advance(3600)
    assert rollover.advance()
    assert not rollover.advance()
    assert authority.signing == second
    assert rollover.active_pin != pin
    assert phases(rollover) == [RootPhase.RETIRING, RootPhase.ACTIVE]
    clock.advance(3600)
    rollover.advance()
    assert [len(bundle) for bundle in told] == [2, 2, 1]
    assert (tmp_path / "ca.pem").read_text() == rollover.bundle()[0]
    assert first in authority.roots  # it tells expired certificates that ask for renewal
    clock.advance(GRACE.total_seconds())
    rollover.advance()
    assert list(authority.roots) == [second]
    assert [path.stem for path in (tmp_path / "ca").glob("*.key")] == [second]


def test_phases_outlive_restarts_and_move_on_while_nothing_runs(tmp_path: Path) -> None:
    clock = ManualClock()
    _, rollover = opened(tmp_path, clock)
    rollover.rotate()
    before = rollover.views()
    _, rollover = opened(tmp_path, clock)
    assert rollover.views() == before
    clock.advance(3600)
    authority, rollover = opened(tmp_path, clock)
    assert phases(rollover) == [RootPhase.RETIRING, RootPhase.ACTIVE]
    assert authority.signing == rollover.views()[1].name


def test_a_root_that_a_crash_left_without_a_phase_is_prepared(tmp_path: Path) -> None:
    clock = ManualClock()
    authority, _ = opened(tmp_path, clock)
    authority.add_root()
    _, rollover = opened(tmp_path, clock)
    assert phases(rollover) == [RootPhase.ACTIVE, RootPhase.PREPARED]


def test_a_forgotten_root_whose_files_a_crash_left_goes(tmp_path: Path) -> None:
    clock = ManualClock()
    authority, rollover = opened(tmp_path, clock)
    first = authority.signing
    files = {path: path.read_bytes() for path in (tmp_path / "ca").glob(f"{first}.*")}
    rollover.rotate()
    for wait in (LIFE, LIFE, GRACE):
        clock.advance(wait.total_seconds())
        rollover.advance()
    for left in (files, {p: data for p, data in files.items() if p.suffix == ".key"}):
        for path, data in left.items():
            path.write_bytes(data)
        authority, rollover = opened(tmp_path, clock)
        assert phases(rollover) == [RootPhase.ACTIVE]
        assert first not in authority.roots


def test_a_phase_without_files_is_an_error(tmp_path: Path) -> None:
    clock = ManualClock()
    _, rollover = opened(tmp_path, clock)
    name = rollover.rotate()
    for suffix in (".key", ".crt"):
        (tmp_path / "ca" / f"{name}{suffix}").unlink()
    with pytest.raises(Invalid, match=name):
        opened(tmp_path, clock)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    clock = ManualClock()
    opened(tmp_path, clock)
    (tmp_path / "ca" / PHASES_FILE).write_text("{")
    with pytest.raises(Invalid, match=PHASES_FILE):
        opened(tmp_path, clock)


def test_phases_last_as_long_as_the_longest_leaf_that_may_be_out_there(tmp_path: Path) -> None:
    clock, longer = ManualClock(), timedelta(hours=5)
    opened(tmp_path, clock, life=longer)
    clock.advance(24 * 3600)
    for _ in range(2):
        _, rollover = opened(tmp_path, clock, life=LIFE)
        assert rollover.leaf_life == longer
        clock.advance(longer.total_seconds() / 2)
    _, rollover = opened(tmp_path, clock, life=LIFE)
    assert rollover.leaf_life == LIFE


async def test_it_moves_on_by_itself(tmp_path: Path) -> None:
    _, rollover = opened(tmp_path, SystemClock(), life=timedelta(seconds=0.2))
    changed = asyncio.Event()
    task = asyncio.get_running_loop().create_task(rollover.run())
    try:
        rollover.rotate()
        rollover.on_change.append(changed.set)
        async with asyncio.timeout(5):
            await changed.wait()
        assert phases(rollover)[:2] == [RootPhase.RETIRING, RootPhase.ACTIVE]
        assert "active" in repr(rollover)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
