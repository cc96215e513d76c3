"""AMD's GPUs as an inventory."""

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from edge_agent.inventory import amd
from edge_agent.inventory.amd import AmdInventory
from federation.contract.capacity import Capacity
from federation.runtime.clock import ManualClock, SystemClock
from tests.edge_agent.inventory.amd_cards import Card, Driver, mi300x, partitions


async def test_gpus_and_their_names() -> None:
    driver = Driver(mi300x(1), mi300x(2))
    inventory = AmdInventory(clock=ManualClock(), node="n", library=driver)
    capacity = await inventory.read()
    assert [d.healthy for d in capacity.devices] == [True, True]
    assert inventory.names == {f"0000:0{n}:00.0": d.id for n, d in enumerate(capacity.devices, 1)}
    assert "2 devices" in repr(inventory)


async def test_partitions_count_as_one_gpu() -> None:
    inventory = AmdInventory(clock=ManualClock(), node="n", library=Driver(*partitions(8)))
    capacity = await inventory.read()
    assert (len(capacity.devices), capacity.gpus, inventory.names) == (8, 1, {})


async def test_a_lost_gpu_is_out() -> None:
    inventory = AmdInventory(clock=ManualClock(), node="n", library=Driver(mi300x(), Card()))
    assert [d.healthy for d in (await inventory.read()).devices] == [True, False]


async def test_a_driver_that_goes_leaves_the_devices_visible() -> None:
    driver = Driver(mi300x())
    inventory = AmdInventory(clock=ManualClock(), node="n", library=driver)
    driver.broken = True
    assert await inventory.read() == Capacity()
    driver.broken = False
    assert (await inventory.read()).gpus == 1
    driver.broken = True
    capacity = await inventory.read()
    assert [d.healthy for d in capacity.devices] == [False]
    assert "Driver not loaded" in capacity.reason


async def test_a_driver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, clock = Driver(mi300x()), ManualClock()
    inventory = AmdInventory(clock=clock, node="n", library=driver)
    await inventory.read()
    monkeypatch.setattr(amd, "DEADLINE_S", 0.05)
    driver.hang.clear()
    clock.advance(5)
    capacity = await inventory.read()
    assert (capacity.gpus, capacity.age_s, bool(capacity.reason)) == (1, 5.0, True)
    clock.advance(60)
    assert (await inventory.read()).gpus == 0
    threads = [thread for thread in threading.enumerate() if thread.name == "amdsmi"]
    assert len(threads) == 1
    driver.hang.set()
    monkeypatch.setattr(amd, "DEADLINE_S", 5.0)
    assert (await inventory.read()).gpus == 1
    await asyncio.to_thread(threads[0].join, 5)


async def test_the_real_library_or_none_is_honest() -> None:
    capacity = await AmdInventory(clock=SystemClock(), node="n").read()
    assert all(device.vendor == "amd" for device in capacity.devices)


async def test_a_library_without_rocm_is_no_gpu_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What amdsmi 7.0 does where ROCm's C library is missing."""
    (tmp_path / "amdsmi.py").write_text("print('no libamd_smi.so')\nraise KeyError('lib')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    assert await AmdInventory(clock=ManualClock(), node="n").read() == Capacity()
    assert capsys.readouterr().out == ""
