"""NVIDIA's GPUs as an inventory: verdicts, drivers that are missing, broken or hang."""

import asyncio
import threading

import pytest

from edge_agent.inventory import nvml
from edge_agent.inventory.nvml import NvmlInventory, _has_driver
from federation.contract.capacity import Capacity
from federation.runtime.clock import ManualClock, SystemClock
from tests.edge_agent.inventory.nvidia_cards import (
    DRIVER_NOT_LOADED,
    LIBRARY_NOT_FOUND,
    MISMATCH,
    Driver,
    a100_with_mig,
    h100,
    recovery,
)


@pytest.fixture
def driver() -> Driver:
    return Driver(h100(0), h100(1))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def inventory(driver: Driver, clock: ManualClock) -> NvmlInventory:
    return NvmlInventory(clock=clock, node="host-1", library=driver)


def told(capacity: Capacity) -> list[tuple[str, bool, str]]:
    return [(d.id, d.healthy, d.reason) for d in capacity.devices]


async def test_healthy_gpus_are_kept_under_watch(inventory: NvmlInventory, driver: Driver) -> None:
    for _ in range(3):
        capacity = await inventory.read()
        assert told(capacity) == [("GPU-h100-0", True, ""), ("GPU-h100-1", True, "")]
        assert (capacity.age_s, capacity.reason, driver.open) == (0.0, "", 1)
    assert inventory.names == {"0000:00:00.0": "GPU-h100-0", "0000:01:00.0": "GPU-h100-1"}
    inventory.close()
    assert (driver.open, driver.sets) == (0, 0)


async def test_an_error_takes_a_gpu_out_until_the_driver_says_that_all_is_well(
    inventory: NvmlInventory, driver: Driver, clock: ManualClock
) -> None:
    await inventory.read()
    driver.cards[1].answers["nvmlDeviceGetFieldValues"] = recovery(1)
    driver.raise_xid(driver.cards[1], 95)
    capacity = await inventory.read()
    assert [d.healthy for d in capacity.devices] == [True, False]
    assert "XID 95" in capacity.devices[1].reason
    assert "asks for a reset" in capacity.devices[1].reason
    assert capacity.gpus == 1
    await inventory.read()
    assert driver.open == 0, "nobody holds the GPU: it can be reset"
    driver.cards[1].answers["nvmlDeviceGetFieldValues"] = recovery(0)
    clock.advance(10)
    assert [d.healthy for d in (await inventory.read()).devices] == [True, False]
    clock.advance(60)
    assert [d.healthy for d in (await inventory.read()).devices] == [True, True]
    await inventory.read()
    assert driver.open == 1
    inventory.close()


async def test_a_gpu_that_fell_off_the_bus_stays_visible(
    inventory: NvmlInventory, driver: Driver, clock: ManualClock
) -> None:
    await inventory.read()
    driver.cards[0].lost = True
    capacity = await inventory.read()
    assert told(capacity)[0] == ("GPU-h100-0", False, "the GPU is lost: GPU is lost")
    assert capacity.devices[0].use is None
    assert capacity.devices[0].memory_mib == 81559, "what it is, is known from before"
    lost = driver.cards.pop(0)
    gone = told(await inventory.read())
    assert sorted(gone) == [
        ("GPU-h100-0", False, "the GPU is lost: the driver does not list it any more"),
        ("GPU-h100-1", True, ""),
    ]
    lost.lost = False
    driver.cards.insert(0, lost)
    clock.advance(40)
    assert [d.healthy for d in (await inventory.read()).devices] == [True, True]
    inventory.close()


async def test_a_gpu_that_was_lost_from_the_start_has_a_name(driver: Driver) -> None:
    driver.cards[1].lost = True
    inventory = NvmlInventory(clock=ManualClock(), node="host-1", library=driver)
    devices = (await inventory.read()).devices
    assert [d.id for d in devices] == ["GPU-h100-0", "host-1/nvidia1"]
    assert [d.healthy for d in devices] == [True, False]


async def test_a_sick_gpu_has_sick_instances() -> None:
    card = a100_with_mig()
    card.answers["nvmlDeviceGetRemappedRows"] = (0, 8, 0, 1)
    inventory = NvmlInventory(clock=ManualClock(), node="n", library=Driver(card))
    capacity = await inventory.read()
    assert {d.healthy for d in capacity.devices} == {False}
    assert capacity.gpus == 0


@pytest.mark.parametrize("code", [LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED])
async def test_no_driver_is_no_gpu_and_is_told_once(
    inventory: NvmlInventory, driver: Driver, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    caplog.set_level("INFO")
    driver.broken = code
    for _ in range(3):
        assert await inventory.read() == Capacity()
    told = [r.getMessage() for r in caplog.records if r.name == nvml.__name__]
    assert told == ["no NVIDIA driver here"]


async def test_a_broken_driver_is_no_honest_zero(inventory: NvmlInventory, driver: Driver) -> None:
    driver.broken = MISMATCH
    capacity = await inventory.read()
    assert capacity.devices == ()
    assert "version mismatch" in capacity.reason


async def test_gpus_do_not_vanish_with_their_driver(
    inventory: NvmlInventory, driver: Driver
) -> None:
    await inventory.read()
    inventory.close()
    driver.broken = DRIVER_NOT_LOADED
    capacity = await inventory.read()
    assert told(capacity) == [
        (id, False, "NVIDIA's driver cannot be asked: Driver Not Loaded")
        for id in ("GPU-h100-0", "GPU-h100-1")
    ]
    driver.broken = 0
    assert [d.healthy for d in (await inventory.read()).devices] == [True, True]
    inventory.close()


async def test_a_driver_that_hangs_holds_up_nothing(
    inventory: NvmlInventory,
    driver: Driver,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await inventory.read()
    monkeypatch.setattr(nvml, "DEADLINE_S", 0.05)
    driver.hang.clear()
    clock.advance(10)
    capacity = await inventory.read()
    assert [d.healthy for d in capacity.devices] == [True, True], "for a moment it is believed"
    assert (capacity.age_s, capacity.reason) == (10.0, "NVIDIA's driver does not answer")
    clock.advance(30)
    capacity = await inventory.read()
    assert [d.healthy for d in capacity.devices] == [False, False]
    assert (capacity.age_s, capacity.gpus) == (40.0, 0)
    hanging = [thread for thread in threading.enumerate() if thread.name == "nvml"]
    assert len(hanging) == 1, "no pile of threads that hang"
    inventory.close()  # which a call that hangs makes impossible
    assert driver.open == 1
    driver.hang.set()
    monkeypatch.setattr(nvml, "DEADLINE_S", 5.0)
    assert [d.healthy for d in (await inventory.read()).devices] == [True, True]
    inventory.close()
    await asyncio.to_thread(hanging[0].join, 5)


async def test_the_real_library_is_honest() -> None:
    """On a machine with a GPU this looks at it; on one without, there is none and no complaint."""
    inventory = NvmlInventory(clock=SystemClock(), node="here")
    capacity = await inventory.read()
    try:
        if not capacity.devices:
            assert capacity.gpus == 0
            return
        for device in capacity.devices:
            assert device.id.startswith(("GPU-", "MIG-"))
            assert device.node == "here"
            assert device.healthy == (not device.reason)
            if not device.healthy:
                continue
            assert device.product
            assert device.memory_mib > 1000
            assert device.compute_capability
            assert device.architecture
            assert device.use is not None
            assert device.use.memory_mib is not None
            assert 0 <= device.use.memory_mib <= device.memory_mib
            assert device.use.temperature_c is None or 0 < device.use.temperature_c < 120
            assert device.use.utilization is None or 0 <= device.use.utilization <= 1
        assert len(inventory.names) == len({d.parent or d.id for d in capacity.devices})
    finally:
        inventory.close()


async def test_the_library_is_loaded_as_soon_as_there_is_a_driver(
    driver: Driver, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator may install it while the agent runs."""
    here = False
    monkeypatch.setattr("edge_agent.inventory.nvml._has_driver", lambda: here)
    monkeypatch.setattr("edge_agent.inventory.nvml._import_library", lambda: driver)
    inventory = NvmlInventory(clock=clock, node="host-1")
    assert (await inventory.read()).devices == ()
    assert driver.open == 0
    here = True
    assert len((await inventory.read()).devices) == 2
    inventory.close()


def test_without_its_c_library_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("edge_agent.inventory.nvml.sys.platform", "linux")
    monkeypatch.setattr("edge_agent.inventory.nvml.ctypes.CDLL", missing)
    assert not _has_driver()
