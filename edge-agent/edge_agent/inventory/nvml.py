"""NVIDIA GPUs of this machine, by the driver's management library (package nvidia-ml-py).

Input: the driver. Output: one Device per GPU, or per MIG instance where a GPU is cut into such,
with what it does now and whether it can be used. Calls into the driver may hang on a sick GPU:
while one hangs the last answer counts, with its age; soon its devices count as unhealthy.
"""

import ctypes
import logging
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType

from edge_agent.inventory.bounded import BoundedCall
from edge_agent.inventory.nvml_reading import SOURCE, GpuReading, NvmlSession, is_no_driver
from edge_agent.policy.capacity import sick
from edge_agent.policy.device_health import SILENCE_S, HealthRecords, Signals
from federation.contract.capacity import Capacity, Device
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

DEADLINE_S = 5.0
_SILENT = "NVIDIA's driver does not answer"
_UNLISTED = Signals(lost="the GPU is lost: the driver does not list it any more")
_MAX_TOLD = 1000  # each thing is logged once


class NvmlInventory:
    """Reads NVML; a machine without a driver simply has no devices.

    The driver stays open between looks, which is how errors of its GPUs (XIDs) are heard of. While
    a GPU is not healthy it is opened for each look only: a GPU that somebody holds cannot be reset.
    """

    def __init__(self, *, clock: Clock, node: str, library: ModuleType | None = None) -> None:
        self._clock = clock
        self._node = node
        self._library = library
        self._session = NvmlSession(library, node) if library else None
        self._call = BoundedCall("nvml", self._look)
        self._records = HealthRecords()
        self._known: dict[str, GpuReading] = {}  # by UUID, as they were when last seen
        self._devices: tuple[Device, ...] = ()
        self._seen_s = clock.monotonic_s()
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"NvmlInventory({len(self._devices)} devices, {self._call}, {self._records})"

    @property
    def names(self) -> Mapping[str, str]:
        """Return the UUID of each GPU by its PCI bus id."""
        return {known.bus_id: uuid for uuid, known in self._known.items() if known.bus_id}

    async def read(self) -> Capacity:
        """Return the devices seen now; never raises."""
        if (library := self._library or self._found_library()) is None:
            return Capacity()
        try:
            readings = await self._call.ask(DEADLINE_S)
        except TimeoutError:
            return self._silent()
        except library.NVMLError as error:
            return self._without_driver(error)
        self._seen_s = self._clock.monotonic_s()
        self._devices = tuple(self._judged(readings))
        return Capacity(devices=self._devices)

    def close(self) -> None:
        """Let the driver go, unless a call to it hangs."""
        if self._session is not None and not self._call.pending:
            self._session.close()

    def _found_library(self) -> ModuleType | None:
        """Return the library, from the first look on at which there is a driver: it takes 2 MB."""
        if not _has_driver():
            self._tell("no NVIDIA driver here")
            return None
        if library := _import_library():
            self._library, self._session = library, NvmlSession(library, self._node)
        return library

    def _look(self) -> tuple[GpuReading, ...]:
        """Read all; runs in the thread that may hang."""
        if self._session is None:
            return ()
        return self._session.look(hold=all(device.healthy for device in self._devices))

    def _silent(self) -> Capacity:
        """Return the last picture: after a while nobody should build on it."""
        age_s = self._clock.monotonic_s() - self._seen_s
        devices = self._devices
        if age_s > SILENCE_S:
            devices = sick(devices, _SILENT)
        self._tell(_SILENT)
        return Capacity(devices=devices, age_s=age_s, reason=_SILENT)

    def _without_driver(self, error: Exception) -> Capacity:
        """Return no devices; those that were there before stay visible."""
        reason = f"NVIDIA's driver cannot be asked: {error}"
        self._tell("no NVIDIA driver here" if is_no_driver(error) else reason)
        if self._known:
            self._devices = sick(self._devices, reason)
            return Capacity(devices=self._devices, reason=reason)
        return Capacity(reason="" if is_no_driver(error) else reason)

    def _judged(self, readings: Collection[GpuReading]) -> Iterator[Device]:
        """Yield all GPUs that are or were there, with the verdict on each."""
        missing = {k: v for k, v in self._known.items() if k not in {r.uuid for r in readings}}
        for reading in readings:
            if not reading.uuid:
                yield from self._lost(reading, missing)
                continue
            self._known[reading.uuid] = reading
            yield from self._verdict(reading.uuid, reading.devices, reading.signals)
        for uuid, known in missing.items():
            yield from self._verdict(uuid, known.devices, _UNLISTED)

    def _lost(self, reading: GpuReading, missing: dict[str, GpuReading]) -> Iterator[Device]:
        """Yield a GPU that answers nothing: by its place, or by what is missing, it is known."""
        by_place = (uuid for uuid, known in missing.items() if known.index == reading.index)
        uuid = next(by_place, next(iter(missing), ""))
        if uuid:
            yield from self._verdict(uuid, missing.pop(uuid).devices, reading.signals)
            return
        name = f"{self._node}/nvidia{reading.index}"
        device = Device(
            id=name, vendor="nvidia", product="GPU", memory_mib=0, source=SOURCE, node=self._node
        )
        yield from self._verdict(name, (device,), reading.signals)

    def _verdict(self, uuid: str, gpu: Iterable[Device], signals: Signals) -> Iterator[Device]:
        health = self._records.judge(uuid, signals, self._clock.monotonic_s())
        if health.note or health.reason:
            self._tell(f"{uuid}: {health.reason or health.note}")
        for device in gpu:
            use = None if signals.lost else device.use
            yield replace(device, healthy=health.healthy, reason=health.reason, use=use)

    def _tell(self, what: str) -> None:
        if what not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(what)
            log.info("%s", what)


def _has_driver() -> bool:
    """Whether NVIDIA's C library is on this machine; it comes with the driver."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def _import_library() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    library: ModuleType = pynvml
    return library
