"""AMD's management library, played: the same names, and cards that answer as such cards do.

Fields as the package amdsmi 7.0 fills them: "N/A" is its word for what is not known.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


class AmdSmiException(Exception):
    """As in the library."""


@dataclass
class Card:
    """What a handle answers, by function; what is not listed is not supported."""

    answers: dict[str, Any] = field(default_factory=dict)


def mi300x(number: int = 0) -> Card:
    """A whole MI300X."""
    return Card(
        {
            "amdsmi_get_gpu_device_bdf": f"0000:{number:02x}:00.0",
            "amdsmi_get_gpu_device_uuid": f"{number:02x}ff74a1-0000-1000-80ff-000000000000",
            "amdsmi_get_gpu_asic_info": {
                "market_name": "AMD Instinct MI300X",
                "target_graphics_version": "gfx942",
            },
            "amdsmi_get_gpu_compute_partition": "SPX",
            "amdsmi_get_gpu_memory_partition": "NPS1",
            "amdsmi_get_gpu_vram_usage": {"vram_total": 196592, "vram_used": 283},
            "amdsmi_get_gpu_activity": {"gfx_activity": 25, "umc_activity": 3},
            "amdsmi_get_power_info": {
                "socket_power": 140,
                "current_socket_power": 143,
                "average_socket_power": "N/A",
            },
            "amdsmi_get_temp_metric": {"HOTSPOT": 44, "EDGE": 40},
            "amdsmi_get_gpu_total_ecc_count": {"uncorrectable_count": 0},
        }
    )


def partitions(count: int = 3) -> list[Card]:
    """Parts of one MI300X in CPX and NPS4: one UUID, functions of one bus id, little else."""
    cards = [mi300x() for _ in range(count)]
    for number, card in enumerate(cards):
        card.answers |= {
            "amdsmi_get_gpu_device_bdf": f"0000:00:00.{number}",
            "amdsmi_get_gpu_compute_partition": "CPX",
            "amdsmi_get_gpu_memory_partition": "NPS4",
            "amdsmi_get_gpu_vram_usage": {"vram_total": 24574, "vram_used": 10},
            "amdsmi_get_gpu_activity": {"gfx_activity": "N/A"},
        }
        del card.answers["amdsmi_get_power_info"]
    return cards


class Driver(ModuleType):
    """The library over some cards; with faults."""

    AmdSmiException = AmdSmiException
    AmdSmiInitFlags = SimpleNamespace(INIT_AMD_GPUS=2)
    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT="HOTSPOT", EDGE="EDGE")
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def __init__(self, *cards: Card) -> None:
        super().__init__("driver")
        self.cards = list(cards)
        self.broken = False
        self.hang = threading.Event()
        self.hang.set()
        self.open = 0

    def amdsmi_init(self, flags: int) -> None:
        self.hang.wait(10)
        if self.broken:
            raise AmdSmiException("AMDSMI_STATUS_DRIVER_NOT_LOADED - Driver not loaded")
        self.open += 1

    def amdsmi_shut_down(self) -> None:
        self.open -= 1

    def amdsmi_get_processor_handles(self) -> list[Card]:
        return self.cards

    def amdsmi_get_temp_metric(self, card: Card, kind: str, _: int) -> int:
        try:
            return int(card.answers["amdsmi_get_temp_metric"][kind])
        except KeyError:
            raise AmdSmiException("AMDSMI_STATUS_NOT_SUPPORTED") from None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("amdsmi_get"):
            raise AttributeError(name)

        def answer(card: Card) -> Any:
            if name not in card.answers:
                raise AmdSmiException("AMDSMI_STATUS_NOT_SUPPORTED")
            return card.answers[name]

        return answer
