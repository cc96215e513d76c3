"""AMD GPUs of this machine, by AMD's management library (package amdsmi, of the extra `amd`).

Input: the driver. Output: one Device per GPU, or per partition where a GPU is cut into such. While
a call into the driver hangs the last answer counts, with its age.
"""

import contextlib
import importlib.util
import io
import logging
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

from edge_agent.inventory.amd_reading import AmdReading, look
from edge_agent.inventory.bounded import BoundedCall
from edge_agent.policy.capacity import sick
from edge_agent.policy.device_health import SILENCE_S, HealthRecords
from federation.contract.capacity import Capacity, Device
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

DEADLINE_S = 5.0
_SILENT = "AMD's driver does not answer"


class AmdInventory:
    """Reads amdsmi; a machine without the library or without a driver has no devices."""

    def __init__(self, *, clock: Clock, node: str, library: ModuleType | None = None) -> None:
        self._library = library or _import_library()
        self._clock = clock
        self._node = node
        self._call = BoundedCall("amdsmi", self._look)
        self._records = HealthRecords()
        self._devices: tuple[Device, ...] = ()
        self._names: dict[str, str] = {}
        self._seen_s = clock.monotonic_s()
        self._told = ""

    def __repr__(self) -> str:
        return f"AmdInventory({len(self._devices)} devices, {self._call}, {self._records})"

    @property
    def names(self) -> Mapping[str, str]:
        """Return the id of each whole GPU by its PCI bus id."""
        return self._names

    async def read(self) -> Capacity:
        """Return the devices seen now; never raises."""
        if self._library is None:
            return Capacity()
        try:
            readings = await self._call.ask(DEADLINE_S)
        except TimeoutError:
            return self._silent()
        except self._library.AmdSmiException as error:
            reason = f"AMD's driver cannot be asked: {' '.join(str(error).split())}"
            self._tell(reason)
            self._devices = sick(self._devices, reason)
            return Capacity(devices=self._devices, reason=reason if self._devices else "")
        self._seen_s = self._clock.monotonic_s()
        self._devices = tuple(self._judged(reading) for reading in readings)
        self._names = {r.bus_id: r.device.id for r in readings if r.bus_id and not r.device.parent}
        return Capacity(devices=self._devices)

    def _look(self) -> tuple[AmdReading, ...]:
        return look(self._library, self._node) if self._library else ()

    def _judged(self, reading: AmdReading) -> Device:
        device = reading.device
        health = self._records.judge(device.id, reading.signals, self._clock.monotonic_s())
        return replace(device, healthy=health.healthy, reason=health.reason)

    def _silent(self) -> Capacity:
        age_s = self._clock.monotonic_s() - self._seen_s
        self._tell(_SILENT)
        devices = sick(self._devices, _SILENT) if age_s > SILENCE_S else self._devices
        return Capacity(devices=devices, age_s=age_s, reason=_SILENT)

    def _tell(self, what: str) -> None:
        if what != self._told:
            self._told = what
            log.info("%s", what)


def _import_library() -> ModuleType | None:
    """Return the library. Without ROCm its import prints, and fails in ways of its own (7.0: a
    KeyError): that is a machine without AMD GPUs."""
    if importlib.util.find_spec("amdsmi") is None:
        return None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import amdsmi
    except (ImportError, OSError, KeyError, AttributeError):
        log.info("amdsmi is installed, but finds no ROCm library: no AMD GPU can be seen")
        return None
    library: ModuleType = amdsmi
    return library
