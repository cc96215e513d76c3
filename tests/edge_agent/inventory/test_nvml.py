"""NVML, played by a library with the same names: machines of the tests have no such GPU."""

import threading
from types import ModuleType, SimpleNamespace

import pytest

from edge_agent.inventory import nvml
from edge_agent.inventory.nvml import NvmlInventory
from federation.contract.capacity import Capacity


class NVMLError(Exception):
    """As in the library."""


class Driver(ModuleType):
    """Two GPUs, the second cut into MIG instances; and faults."""

    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self) -> None:
        super().__init__("driver")
        self.missing = False
        self.hang = threading.Event()
        self.hang.set()
        self.open = 0

    def nvmlInit(self) -> None:
        self.hang.wait(10)
        if self.missing:
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"gpu-{index}"

    def nvmlDeviceGetName(self, gpu: str) -> bytes:
        return b"NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return f"UUID-{handle}"

    def nvmlDeviceGetMemoryInfo(self, gpu: str) -> SimpleNamespace:
        return SimpleNamespace(total=80 << 30)

    def nvmlDeviceGetMigMode(self, gpu: str) -> tuple[int, int]:
        if gpu == "gpu-0":
            raise NVMLError("Not Supported")
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: str) -> int:
        return 3

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: str, index: int) -> str:
        if index == 1:
            raise NVMLError("Not Found")
        return f"{gpu}-mig-{index}"

    def nvmlDeviceGetAttributes(self, instance: str) -> SimpleNamespace:
        return SimpleNamespace(memorySizeMB=9856)


@pytest.fixture
def driver() -> Driver:
    return Driver()


async def test_gpus_and_their_instances(driver: Driver) -> None:
    devices = (await NvmlInventory(library=driver).read()).devices
    assert [(d.id, d.product, d.memory_mib) for d in devices] == [
        ("UUID-gpu-0", "H100", 81920),
        ("UUID-gpu-1-mig-0", "H100-MIG", 9856),
        ("UUID-gpu-1-mig-2", "H100-MIG", 9856),
    ]
    assert driver.open == 0


async def test_no_driver_is_no_gpu_and_is_told_once(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    driver.missing = True
    inventory = NvmlInventory(library=driver)
    for _ in range(3):
        assert (await inventory.read()).devices == ()
    assert [r.getMessage() for r in caplog.records if r.name == nvml.__name__] == [
        "no NVIDIA GPU can be seen: Driver Not Loaded"
    ]


async def test_a_driver_that_hangs_holds_up_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "DEADLINE_S", 0.05)
    inventory = NvmlInventory(library=driver)
    assert len((await inventory.read()).devices) == 3
    driver.hang.clear()
    for _ in range(3):
        assert [d.healthy for d in (await inventory.read()).devices] == [False] * 3
    hanging = [thread for thread in threading.enumerate() if thread.name == "nvml"]
    assert len(hanging) == 1, "no pile of threads that hang"
    driver.hang.set()
    monkeypatch.setattr(nvml, "DEADLINE_S", 5.0)
    assert [d.healthy for d in (await inventory.read()).devices] == [True] * 3


async def test_the_real_library_never_raises() -> None:
    assert isinstance(await NvmlInventory().read(), Capacity)
