"""What devices are doing now, in columns: cheap to carry each second, unpacked when somebody looks.

Input: devices with their use, or the columns of a report. Output: the other. Numbers are rounded:
memory to MiB, utilization to a thousandth, temperature to degrees, power to watts.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from federation.contract.capacity import Device, DeviceUse

Column = tuple[int, ...]
_MOST = 2**32 - 2  # a column's values are uint32, one more than what they stand for


@dataclass(frozen=True, slots=True)
class UseColumns:
    """One value for each device, one more than what it stands for; 0 = not known.

    A column of which nothing is known is empty; one that is shorter than the list of devices knows
    nothing of the rest.
    """

    memory_mib: Column = ()
    utilization: Column = ()  # in thousandths
    temperature_c: Column = ()
    power_w: Column = ()

    def at(self, index: int) -> DeviceUse | None:
        """Return what is known of one device; None = nothing."""
        memory = _value(self.memory_mib, index)
        utilization = _value(self.utilization, index)
        temperature = _value(self.temperature_c, index)
        power = _value(self.power_w, index)
        if memory is utilization is temperature is power is None:
            return None
        return DeviceUse(
            memory_mib=memory,
            utilization=None if utilization is None else utilization / 1000,
            temperature_c=None if temperature is None else float(temperature),
            power_w=None if power is None else float(power),
        )


def use_columns(devices: Iterable[Device]) -> UseColumns:
    """Return the use of devices as columns."""
    nothing = DeviceUse()
    uses = [device.use or nothing for device in devices]
    return UseColumns(
        memory_mib=_column([use.memory_mib for use in uses]),
        utilization=_column([_scaled(use.utilization, 1000) for use in uses]),
        temperature_c=_column([use.temperature_c for use in uses]),
        power_w=_column([use.power_w for use in uses]),
    )


def with_use(devices: Sequence[Device], columns: UseColumns) -> tuple[Device, ...]:
    """Return the devices with what they are doing."""
    if columns == UseColumns():
        return tuple(devices)
    return tuple(replace(device, use=columns.at(n)) for n, device in enumerate(devices))


def _value(column: Column, index: int) -> int | None:
    return column[index] - 1 if index < len(column) and column[index] else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _column(values: Sequence[float | None]) -> Column:
    column = tuple(_packed(value) for value in values)
    return column if any(column) else ()


def _packed(value: float | None) -> int:
    if value is None or math.isnan(value):
        return 0
    return round(min(max(value, 0.0), _MOST)) + 1
