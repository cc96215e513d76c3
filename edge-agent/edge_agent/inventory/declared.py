"""Devices that an operator declared in a file: for machines that nothing here can look into.

Input: a YAML or JSON file, read again at each look:

    devices:
      - {product: L40S, memory_mib: 46068, count: 2, node: rack-3, architecture: ada}
      - {product: L40S, memory_mib: 46068, healthy: false, reason: its fan is being replaced}

`devices: []` says that there is none. Output: devices with the ids `declared-0`, `declared-1`, ...
or the given id (with -0, -1, ... if there are several).
"""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

from federation.contract.capacity import Capacity, Device
from federation.contract.errors import Invalid
from federation.contract.strict_yaml import load_document

log = logging.getLogger(__name__)

SOURCE = "declared"
MAX_DEVICES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredDevice:
    """One line of the file: `count` equal devices."""

    product: str
    memory_mib: int
    count: int = 1
    id: str = ""
    vendor: str = "nvidia"
    healthy: bool = True
    reason: str = ""  # why it is not healthy
    node: str = ""
    architecture: str = ""
    compute_capability: str = ""
    parent: str = ""  # of a partition: the id of its device
    profile: str = ""  # of a partition


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredDevices:
    """The whole file."""

    devices: tuple[DeclaredDevice, ...]


class DeclaredInventory:
    """Reads the file; a file that became bad is told once, and the last good one counts."""

    def __init__(self, path: Path) -> None:
        """Read the file a first time; raises Invalid with line, key and remedy."""
        self._path = path
        self._devices = read_declared(path)
        self._told = ""

    def __repr__(self) -> str:
        return f"DeclaredInventory({self._path}, {len(self._devices)} devices)"

    async def read(self) -> Capacity:
        """Return the declared devices."""
        try:
            self._devices = await asyncio.to_thread(read_declared, self._path)
            self._told = ""
        except Invalid as error:
            if error.message != self._told:
                self._told = error.message
                log.warning("the last good inventory counts: %s", error.sentence())
        return Capacity(devices=self._devices, reason=self._told)


def read_declared(path: Path) -> tuple[Device, ...]:
    """Return the devices of a file; raises Invalid with line, key and remedy."""
    try:
        document = load_document(path.read_text(encoding="utf-8"), source=str(path))
    except OSError as error:
        raise Invalid(f"cannot read the inventory {path}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: not valid YAML: {error}.") from None
    declared: DeclaredDevices = document.convert(DeclaredDevices)
    devices: list[Device] = []
    for index, line in enumerate(declared.devices):
        where = f"{path} line {document.line(('devices', index))}"
        if line.count < 1 or line.memory_mib < 1 or not line.product:
            raise Invalid(f"{where}: product must not be empty, count and memory_mib at least 1.")
        if line.reason and line.healthy:
            raise Invalid(
                f"{where}: a reason says why a device is not healthy.", hint="Add healthy: false."
            )
        if len(devices) + line.count > MAX_DEVICES:
            raise Invalid(f"{where}: more than {MAX_DEVICES} devices.")
        devices += [_device(line, number, len(devices)) for number in range(line.count)]
    ids = Counter(device.id for device in devices)
    if twice := next((i for i, times in ids.items() if times > 1), None):
        raise Invalid(f"{path}: two devices have the id {twice!r}.")
    return tuple(devices)


def _device(line: DeclaredDevice, number: int, first: int) -> Device:
    several = f"-{number}" if line.count > 1 else ""
    return Device(
        id=f"{line.id}{several}" if line.id else f"{SOURCE}-{first + number}",
        vendor=line.vendor,
        product=line.product,
        memory_mib=line.memory_mib,
        healthy=line.healthy,
        source=SOURCE,
        reason=line.reason,
        node=line.node,
        parent=line.parent,
        profile=line.profile,
        architecture=line.architecture,
        compute_capability=line.compute_capability,
    )
