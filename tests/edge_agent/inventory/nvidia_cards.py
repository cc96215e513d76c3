"""NVIDIA's management library, played: the same names, and cards that answer as such cards do.

Names and sizes are those that nvidia-smi shows for these cards, and that NVIDIA's MIG user guide
lists (https://docs.nvidia.com/datacenter/tesla/mig-user-guide/).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

NOT_SUPPORTED, NOT_FOUND, DRIVER_NOT_LOADED, TIMEOUT = 3, 6, 9, 10
LIBRARY_NOT_FOUND, GPU_IS_LOST, MISMATCH = 12, 15, 18
_WORDS = {
    NOT_SUPPORTED: "Not Supported",
    NOT_FOUND: "Not Found",
    DRIVER_NOT_LOADED: "Driver Not Loaded",
    TIMEOUT: "Timeout",
    LIBRARY_NOT_FOUND: "NVML Shared Library Not Found",
    GPU_IS_LOST: "GPU is lost",
    MISMATCH: "RM has detected an NVML/RM version mismatch.",
}
MIB = 1 << 20


class NVMLError(Exception):
    """As in the library: its code is `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(_WORDS.get(value, str(value)))
        self.value = value


@dataclass
class Card:
    """What a handle answers, by function; what is not listed is not supported."""

    answers: dict[str, Any] = field(default_factory=dict)
    instances: dict[int, "Card"] = field(default_factory=dict)
    lost: bool = False

    @property
    def uuid(self) -> str:
        return str(self.answers["nvmlDeviceGetUUID"])


def memory(total_mib: int, used_mib: int) -> SimpleNamespace:
    return SimpleNamespace(total=total_mib * MIB, used=used_mib * MIB)


def recovery(action: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=action))]


def h100(number: int = 0) -> Card:
    """An H100 with a driver of 2025: all there is."""
    return Card(
        {
            "nvmlDeviceGetUUID": f"GPU-h100-{number}",
            "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
            "nvmlDeviceGetPciInfo": SimpleNamespace(busId=f"00000000:{number:02X}:00.0".encode()),
            "nvmlDeviceGetArchitecture": 9,
            "nvmlDeviceGetCudaComputeCapability": (9, 0),
            "nvmlDeviceGetMemoryInfo": memory(81559, 1024),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37, memory=12),
            "nvmlDeviceGetTemperatureV": 41,
            "nvmlDeviceGetPowerUsage": 123_456,
            "nvmlDeviceGetMigMode": [0, 0],
            "nvmlDeviceGetRemappedRows": (0, 0, 0, 0),
            "nvmlDeviceGetCurrentClocksEventReasons": 1,
            "nvmlDeviceGetTotalEccErrors": 0,
            "nvmlDeviceGetFieldValues": recovery(0),
        }
    )


def t4() -> Card:
    """A T4: no MIG, no row remapper; with an older driver, whose names are older."""
    return Card(
        {
            "nvmlDeviceGetUUID": b"GPU-t4",
            "nvmlDeviceGetName": b"Tesla T4",
            "nvmlDeviceGetPciInfo": SimpleNamespace(busId=b"00000000:AF:00.0"),
            "nvmlDeviceGetArchitecture": 6,
            "nvmlDeviceGetCudaComputeCapability": (7, 5),
            "nvmlDeviceGetMemoryInfo": memory(15360, 448),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0, memory=0),
            "nvmlDeviceGetTemperature": 33,
            "nvmlDeviceGetPowerUsage": 9_950,
            "nvmlDeviceGetRetiredPagesPendingStatus": 0,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 1,
            "nvmlDeviceGetTotalEccErrors": 0,
        }
    )


def slice_of(number: int, profile: str, slices: tuple[int, int], total_mib: int) -> Card:
    """One MIG instance of an A100: `slices` of GPU and of compute."""
    attributes = SimpleNamespace(
        memorySizeMB=total_mib, gpuInstanceSliceCount=slices[0], computeInstanceSliceCount=slices[1]
    )
    answers = {
        "nvmlDeviceGetUUID": f"MIG-{number}",
        "nvmlDeviceGetAttributes": attributes,
        "nvmlDeviceGetMemoryInfo": memory(total_mib, 13),
    }
    if profile:
        answers["nvmlDeviceGetName"] = f"NVIDIA A100-SXM4-40GB MIG {profile}"
    return Card(answers)


def a100_with_mig() -> Card:
    """An A100 cut into 3g.20gb and 1g.5gb, with free places between; no utilisation."""
    card = h100()
    card.answers |= {
        "nvmlDeviceGetUUID": "GPU-a100",
        "nvmlDeviceGetName": "NVIDIA A100-SXM4-40GB",
        "nvmlDeviceGetArchitecture": 7,
        "nvmlDeviceGetCudaComputeCapability": (8, 0),
        "nvmlDeviceGetMemoryInfo": memory(40960, 60),
        "nvmlDeviceGetMigMode": [1, 1],
        "nvmlDeviceGetMaxMigDeviceCount": 7,
    }
    del card.answers["nvmlDeviceGetUtilizationRates"]
    card.instances = {
        0: slice_of(0, "3g.20gb", (3, 3), 19968),
        3: slice_of(3, "", (1, 1), 4864),
        4: slice_of(4, "", (3, 1), 19968),
    }
    return card


class Driver(ModuleType):
    """The library over some cards; with faults."""

    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_ERROR_GPU_IS_LOST = GPU_IS_LOST
    NVML_ERROR_RESET_REQUIRED = 16
    NVML_TEMPERATURE_GPU = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    NVML_FI_DEV_GET_GPU_RECOVERY_ACTION = 230
    nvmlEventTypeXidCriticalError = 8  # noqa: N815  # the library's name

    def __init__(self, *cards: Card) -> None:
        super().__init__("driver")
        self.cards = list(cards)
        self.broken = 0  # the code with which it refuses to start
        self.hang = threading.Event()
        self.hang.set()
        self.open = 0
        self.sets = 0
        self.listening: list[Card] = []
        self.events: list[SimpleNamespace] = []

    def raise_xid(self, card: Card, code: int) -> None:
        if card in self.listening:
            self.events.append(SimpleNamespace(device=card, eventType=8, eventData=code))

    def nvmlInit(self) -> None:
        self.hang.wait(10)
        if self.broken:
            raise NVMLError(self.broken)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1
        self.listening, self.events = [], []

    def nvmlDeviceGetCount(self) -> int:
        self.hang.wait(10)
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        if self.cards[index].lost:
            raise NVMLError(GPU_IS_LOST)
        return self.cards[index]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, place: int) -> Card:
        if place not in card.instances:
            raise NVMLError(NOT_FOUND)
        return card.instances[place]

    def nvmlEventSetCreate(self) -> str:
        self.sets += 1
        return "set"

    def nvmlEventSetFree(self, _: str) -> None:
        self.sets -= 1

    def nvmlDeviceRegisterEvents(self, card: Card, kinds: int, _: str) -> None:
        if "nvmlDeviceGetRetiredPagesPendingStatus" in card.answers:
            raise NVMLError(NOT_SUPPORTED)
        self.listening.append(card)

    def nvmlEventSetWait_v2(self, _: str, timeout_ms: int) -> SimpleNamespace:
        if not self.events:
            raise NVMLError(TIMEOUT)
        return self.events.pop(0)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)

        def answer(card: Card, *_: object) -> Any:
            if card.lost:
                raise NVMLError(GPU_IS_LOST)
            if name not in card.answers:
                raise NVMLError(NOT_SUPPORTED)
            return card.answers[name]

        return answer
