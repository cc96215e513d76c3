"""What AMD's management library tells, field by field; runs in a thread that may hang.

Input: the library (module amdsmi). Output: one reading per GPU, or per partition of one. Answers
may be "N/A", or not supported by a GPU or a driver: what is not known is absent. Names:
https://rocm.docs.amd.com/projects/amdsmi/en/latest/reference/amdsmi-py-api.html
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from edge_agent.policy.capacity import bus_id
from edge_agent.policy.device_health import Signals
from federation.contract.capacity import Device, DeviceUse

SOURCE = "amd"
_WHOLE = ("", "N/A", "SPX")  # compute partition modes in which a GPU is one device


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdReading:
    """One look at one GPU or partition."""

    bus_id: str
    device: Device
    signals: Signals


def look(library: ModuleType, node: str) -> tuple[AmdReading, ...]:
    """Read all GPUs; raises the library's AmdSmiException."""
    library.amdsmi_init(library.AmdSmiInitFlags.INIT_AMD_GPUS)
    try:
        handles = library.amdsmi_get_processor_handles()
        return tuple(_distinct([_Gpu(library, handle).read(node) for handle in handles]))
    finally:
        library.amdsmi_shut_down()


def _distinct(readings: list[AmdReading]) -> Iterator[AmdReading]:
    """Yield them under ids of their own: partitions of a GPU may show its UUID, all of them."""
    ids = [reading.device.id for reading in readings]
    for index, reading in enumerate(readings):
        device = reading.device
        if ids.count(device.id) > 1 or not device.id:
            base = device.id or f"{device.node}/amd"
            yield replace(reading, device=replace(device, id=f"{base}#{index}"))
        else:
            yield reading


class _Gpu:
    """One GPU's or partition's fields."""

    def __init__(self, library: ModuleType, handle: object) -> None:
        self._library = library
        self._handle = handle

    def read(self, node: str) -> AmdReading:
        place = bus_id(str(self._ask("amdsmi_get_gpu_device_bdf") or ""))
        asic = self._ask("amdsmi_get_gpu_asic_info") or {}
        mode = str(self._ask("amdsmi_get_gpu_compute_partition") or "")
        memory = self._ask("amdsmi_get_gpu_vram_usage") or {}
        partition = mode not in _WHOLE
        device = Device(
            id=str(self._ask("amdsmi_get_gpu_device_uuid") or place),
            vendor="amd",
            product=_known(asic.get("market_name")) or "GPU",
            memory_mib=mebibytes(memory.get("vram_total")) or 0,
            source=SOURCE,
            node=node,
            parent=f"{place.rpartition('.')[0]}.0" if partition and place else "",
            profile=self._profile(mode) if partition else "",
            architecture=_known(asic.get("target_graphics_version")),
            use=self._use(memory),
        )
        lost = "" if asic or memory else "the GPU is lost: the driver tells nothing of it"
        return AmdReading(bus_id=place, device=device, signals=replace(self._signals(), lost=lost))

    def _ask(self, name: str, *arguments: object) -> Any:
        function = getattr(self._library, name, None)
        if function is None:
            return None
        try:
            return function(self._handle, *arguments)
        except self._library.AmdSmiException:
            return None

    def _profile(self, mode: str) -> str:
        """Return the name of the partitioning: "cpx_nps4"."""
        memory = _known(self._ask("amdsmi_get_gpu_memory_partition"))
        return "_".join(part.lower() for part in (mode, memory) if part)

    def _use(self, memory: dict[str, Any]) -> DeviceUse:
        busy = _number((self._ask("amdsmi_get_gpu_activity") or {}).get("gfx_activity"))
        power = self._ask("amdsmi_get_power_info") or {}
        names = ("current_socket_power", "average_socket_power", "socket_power")
        watts = (_number(power.get(name)) for name in names)
        return DeviceUse(
            memory_mib=mebibytes(memory.get("vram_used"), like=memory.get("vram_total")),
            utilization=min(busy / 100, 1.0) if busy is not None else None,
            temperature_c=self._temperature(),
            power_w=next((value for value in watts if value), None),
        )

    def _temperature(self) -> float | None:
        kinds, metric = self._library.AmdSmiTemperatureType, self._library.AmdSmiTemperatureMetric
        for kind in (kinds.HOTSPOT, kinds.EDGE):
            found = _number(self._ask("amdsmi_get_temp_metric", kind, metric.CURRENT))
            if found is not None:
                return found
        return None

    def _signals(self) -> Signals:
        errors = self._ask("amdsmi_get_gpu_total_ecc_count") or {}
        # Bad pages are retired while it works; what a GPU cannot bear, its driver resets by itself.
        return Signals(
            uncorrected=int(_number(errors.get("uncorrectable_count")) or 0), remaps=True
        )


def mebibytes(value: object, *, like: object = None) -> int | None:
    """Return an amount of memory in MiB. The library tells MiB or bytes, according to its version:
    no GPU has 16 TiB, and none as little as 16 MiB. `like` is another amount of the same unit."""
    number, measure = _number(value), _number(value if like is None else like)
    if number is None or measure is None:
        return None
    return int(number) >> 20 if measure >= 1 << 24 else int(number)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _known(value: object) -> str:
    text = str(value or "")
    return "" if text == "N/A" else text
