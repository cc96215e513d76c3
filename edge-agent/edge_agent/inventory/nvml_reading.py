"""What NVIDIA's management library tells, field by field; runs in a thread that may hang.

Input: the library (module pynvml of the package nvidia-ml-py). Output: one reading per GPU. What a
GPU or its driver does not support is absent. Names and units:
https://docs.nvidia.com/deploy/nvml-api/
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from edge_agent.policy.capacity import bus_id
from edge_agent.policy.device_health import Recovery, Signals
from federation.contract.capacity import Device, DeviceUse

SOURCE = "nvml"
_MIB = 1 << 20
_MAX_EVENTS = 1000  # taken in one look; the driver keeps no more by far
_ARCHITECTURES = {
    2: "kepler",
    3: "maxwell",
    4: "pascal",
    5: "volta",
    6: "turing",
    7: "ampere",
    8: "ada",
    9: "hopper",
    10: "blackwell",
    13: "rubin",
}
_HOT, _WARM, _BRAKED = 0x40, 0x20, 0x80  # nvmlClocksEventReason*


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One look at one GPU: `devices` is itself, or its MIG instances; empty if it is lost."""

    index: int
    uuid: str = ""
    bus_id: str = ""
    devices: tuple[Device, ...] = ()
    signals: Signals


def is_no_driver(error: Exception) -> bool:
    """Whether an NVMLError says that this machine has no NVIDIA driver at all."""
    return getattr(error, "value", None) in (9, 12)  # DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND


class Lost(Exception):
    """The GPU does not answer any more."""


class NvmlSession:
    """The library, opened and closed. While it is open it collects errors (XIDs), and no GPU of
    this machine can be reset."""

    def __init__(self, library: ModuleType, node: str) -> None:
        self._library = library
        self._node = node
        self._events: Any = None
        self._open = False

    def __repr__(self) -> str:
        return f"NvmlSession({'open' if self._open else 'closed'})"

    def look(self, *, hold: bool) -> tuple[GpuReading, ...]:
        """Read all GPUs; stays open afterwards if `hold`. Raises the library's NVMLError."""
        if not self._open:
            self._library.nvmlInit()
            self._open = True
            if hold:
                self._watch_errors()
        healthy = False
        try:
            xids = self._new_xids()
            count = self._library.nvmlDeviceGetCount()
            readings = tuple(self._gpu(index, xids) for index in range(count))
            healthy = all(not reading.signals.lost for reading in readings)
        finally:
            if not (hold and healthy):
                self.close()
        return readings

    def close(self) -> None:
        """Let the driver go; nothing is done if it is closed."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(self._library.NVMLError):
            if self._events is not None:
                self._library.nvmlEventSetFree(self._events)
        self._events = None
        with contextlib.suppress(self._library.NVMLError):
            self._library.nvmlShutdown()

    def _watch_errors(self) -> None:
        """Ask for XIDs of all GPUs that can tell them; needs no root."""
        nvml = self._library
        try:
            self._events = nvml.nvmlEventSetCreate()
        except (nvml.NVMLError, AttributeError):
            return
        for index in range(nvml.nvmlDeviceGetCount()):
            with contextlib.suppress(nvml.NVMLError):
                gpu = nvml.nvmlDeviceGetHandleByIndex(index)
                nvml.nvmlDeviceRegisterEvents(gpu, nvml.nvmlEventTypeXidCriticalError, self._events)

    def _new_xids(self) -> dict[str, list[int]]:
        """Return the codes since the last look, by UUID of the GPU."""
        nvml, found = self._library, dict[str, list[int]]()
        if self._events is None:
            return found
        for _ in range(_MAX_EVENTS):
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = _text(nvml.nvmlDeviceGetUUID(event.device))
            except nvml.NVMLError:  # a timeout: there are no more
                break
            if event.eventType == nvml.nvmlEventTypeXidCriticalError:
                found.setdefault(uuid, []).append(int(event.eventData))
        return found

    def _gpu(self, index: int, xids: dict[str, list[int]]) -> GpuReading:
        nvml = self._library
        try:
            gpu = nvml.nvmlDeviceGetHandleByIndex(index)
            return Gpu(nvml, gpu, self._node).read(index, xids)
        except (Lost, nvml.NVMLError) as error:
            return GpuReading(index=index, signals=Signals(lost=f"the GPU is lost: {error}"))


class Gpu:
    """One GPU's fields."""

    def __init__(self, library: ModuleType, handle: object, node: str) -> None:
        self._library = library
        self._handle = handle
        self._node = node
        self._fatal = (library.NVML_ERROR_GPU_IS_LOST, library.NVML_ERROR_RESET_REQUIRED)

    def read(self, index: int, xids: dict[str, list[int]]) -> GpuReading:
        """Return all of it; raises Lost, or NVMLError where even its UUID is not to be had."""
        uuid = _text(self._library.nvmlDeviceGetUUID(self._handle))
        pci = self._ask("nvmlDeviceGetPciInfo")
        signals = replace(self._signals(), xids=tuple(xids.get(uuid, ())))
        devices = tuple(self._devices(uuid))
        if not devices:
            signals = replace(signals, unusable="MIG is on, but there is no MIG instance")
            devices = (self._whole(uuid),)
        return GpuReading(
            index=index,
            uuid=uuid,
            bus_id=bus_id(_text(pci.busId)) if pci else "",
            devices=devices,
            signals=signals,
        )

    def _ask(self, name: str, *arguments: object, of: object = None) -> Any:
        """Return what the library answers; None if the GPU, the driver or the library cannot."""
        function = getattr(self._library, name, None)
        if function is None:
            return None
        try:
            return function(self._handle if of is None else of, *arguments)
        except self._library.NVMLError as error:
            if getattr(error, "value", None) in self._fatal:
                raise Lost(str(error)) from None
            return None

    def _devices(self, uuid: str) -> Iterator[Device]:
        """Yield the GPU, or what it is cut into: nothing if it is to be cut and is not yet."""
        whole = self._whole(uuid)
        mode = self._ask("nvmlDeviceGetMigMode")
        if not mode or mode[0] != self._library.NVML_DEVICE_MIG_ENABLE:
            yield whole
            return
        for place in range(self._ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
            instance = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", place)
            if instance is not None:
                yield self._instance(instance, place, whole)

    def _whole(self, uuid: str) -> Device:
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        capability = self._ask("nvmlDeviceGetCudaComputeCapability")
        used = self._ask("nvmlDeviceGetUtilizationRates")
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        return Device(
            id=uuid,
            vendor="nvidia",
            product=_text(self._ask("nvmlDeviceGetName") or "GPU").removeprefix("NVIDIA "),
            memory_mib=memory.total // _MIB if memory else 0,
            source=SOURCE,
            node=self._node,
            architecture=_ARCHITECTURES.get(self._ask("nvmlDeviceGetArchitecture"), ""),
            compute_capability="{}.{}".format(*capability) if capability else "",
            use=DeviceUse(
                memory_mib=memory.used // _MIB if memory else None,
                utilization=used.gpu / 100 if used else None,
                temperature_c=self._temperature(),
                power_w=milliwatts / 1000 if milliwatts is not None else None,
            ),
        )

    def _instance(self, instance: object, place: int, whole: Device) -> Device:
        """Return a MIG instance: its own memory, the GPU's temperature, no utilisation."""
        memory = self._ask("nvmlDeviceGetMemoryInfo", of=instance)
        slices = self._ask("nvmlDeviceGetAttributes", of=instance)
        name = _text(self._ask("nvmlDeviceGetName", of=instance) or "")
        total_mib = slices.memorySizeMB if slices else memory.total // _MIB if memory else 0
        return replace(
            whole,
            id=_text(self._ask("nvmlDeviceGetUUID", of=instance) or f"{whole.id}/mig{place}"),
            memory_mib=total_mib,
            parent=whole.id,
            profile=name.partition(" MIG ")[2] or _profile(slices),
            use=DeviceUse(
                memory_mib=memory.used // _MIB if memory else None,
                temperature_c=whole.use.temperature_c if whole.use else None,
            ),
        )

    def _temperature(self) -> float | None:
        for name in ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"):
            found = self._ask(name, self._library.NVML_TEMPERATURE_GPU)
            if found is not None:
                return float(found)
        return None

    def _signals(self) -> Signals:
        rows = self._ask("nvmlDeviceGetRemappedRows")
        pages = self._ask("nvmlDeviceGetRetiredPagesPendingStatus")
        clocks = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if clocks is None:  # the name before R535
            clocks = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        nvml = self._library
        uncorrected = self._ask(
            "nvmlDeviceGetTotalEccErrors",
            nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            nvml.NVML_VOLATILE_ECC,
        )
        return Signals(
            recovery=self._recovery(),
            remaps=rows is not None,
            remap_pending=bool(rows[2] if rows else pages),
            remap_failed=bool(rows and rows[3]),
            uncorrected=uncorrected or 0,
            hot=bool(clocks & _HOT),
            warm=bool(clocks & _WARM),
            braked=bool(clocks & _BRAKED),
        )

    def _recovery(self) -> Recovery | None:
        field = getattr(self._library, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", None)
        values = self._ask("nvmlDeviceGetFieldValues", [field]) if field is not None else None
        if not values or values[0].nvmlReturn != 0:
            return None
        action = int(values[0].value.uiVal)
        return Recovery(action) if action in list(Recovery) else Recovery.GPU_RESET


def _profile(slices: Any) -> str:
    """Return a MIG profile's name from its parts: "1g.5gb", "1c.3g.20gb"."""
    if slices is None:
        return ""
    gpu, compute = slices.gpuInstanceSliceCount, slices.computeInstanceSliceCount
    part = f"{compute}c." if compute != gpu else ""
    return f"{part}{gpu}g.{math.ceil(slices.memorySizeMB / 1024)}gb"


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
