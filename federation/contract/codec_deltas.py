"""The capacities of one stream of reports: whole when they changed, else what changes all the time.

Input: an agent's capacities, or the messages of its stream. Output: the other. A stream is ordered
and loses nothing, so the newest whole report is all that either end has to keep.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from federation.contract import codec_capacity, codec_trust
from federation.contract.capacity import Capacity, Device, Pool, pools_of
from federation.contract.capacity_rules import (
    MAX_WORDS,
    checked_age,
    checked_devices,
    checked_pools,
)
from federation.contract.codec_columns import (
    Nodes,
    devices_from_columns,
    devices_to_columns,
    pools_from_columns,
    pools_to_columns,
    use_from_proto,
    use_to_proto,
)
from federation.contract.device_use import UseColumns, use_columns
from federation.contract.errors import Invalid
from federation.contract.v1 import federation_pb2 as pb

Numbers = tuple[tuple[int, ...], tuple[int, ...]]  # `free` and `ours` of all pools
_NO_NUMBERS: Numbers = ((), ())


class CapacityWriter:
    """The agent's end of one stream: writes each capacity as short as it may be."""

    def __init__(self) -> None:
        self._base = 0  # the sequence of the newest whole report; 0 = none
        self._told: Capacity | None = None  # its capacity
        self._devices: tuple[Device, ...] = ()  # these at rest ...
        self._pools: tuple[Pool, ...] = ()  # ... and these without what changes all the time
        self._derived: tuple[Pool, ...] = ()  # what the far end takes for pools if none are told

    def __repr__(self) -> str:
        return f"CapacityWriter(base={self._base})"

    def forget(self) -> None:
        """Tell all with the next report: the far end has no base."""
        self._base, self._told = 0, None

    def write(self, sequence: int, capacity: Capacity) -> pb.CompactCapacity:
        """Return what report number `sequence` tells of the capacity."""
        message = pb.CompactCapacity(
            base=self._base,
            use=use_to_proto(use_columns(capacity.devices)),
            observed_at_unix_ms=codec_capacity.unix_ms(capacity.observed_at),
            age_s=capacity.age_s,
            reason=capacity.reason,
            waiting=capacity.waiting,
        )
        if not self.is_told(capacity):
            self._tell(sequence, capacity, message)
        if capacity.pools != self._derived:
            message.free.extend(pool.free for pool in capacity.pools)
            message.ours.extend(pool.ours for pool in capacity.pools)
        return message

    def _tell(self, sequence: int, capacity: Capacity, message: pb.CompactCapacity) -> None:
        """Make this capacity the base."""
        self._base, self._told = sequence, capacity
        self._devices, self._pools = _at_rest(capacity.devices), _fixed(capacity.pools)
        self._derived = pools_of(self._devices)
        pools = () if self._pools == _fixed(self._derived) else self._pools
        nodes = Nodes.of(self._devices, pools)
        message.base = 0
        message.nodes.CopyFrom(nodes.to_proto())
        message.devices.CopyFrom(devices_to_columns(self._devices, nodes))
        message.pools.CopyFrom(pools_to_columns(pools, nodes))

    def is_told(self, capacity: Capacity) -> bool:
        """Whether the far end knows these devices and pools, all but what changes all the time."""
        told = self._told
        if told is None:
            return False
        devices = capacity.devices is told.devices or _at_rest(capacity.devices) == self._devices
        pools = capacity.pools is told.pools or _fixed(capacity.pools) == self._pools
        return devices and pools


@dataclass(frozen=True, slots=True)
class Told:
    """What a report tells: the capacity at rest, and what its devices are doing."""

    capacity: Capacity
    use: UseColumns


class CapacityReader:
    """The control plane's end of one stream."""

    def __init__(self) -> None:
        self._base = 0
        self._devices: tuple[Device, ...] = ()
        self._untold: tuple[Pool, ...] = ()  # as they are if a report tells no numbers of theirs
        self._numbers = _NO_NUMBERS
        self._pools: tuple[Pool, ...] = ()  # with these numbers: equal ones need no new pools

    def __repr__(self) -> str:
        return f"CapacityReader(base={self._base}, devices={len(self._devices)})"

    def read(self, report: pb.Report) -> Told | None:
        """Return what a report tells; None = it needs a base that is not there.

        Where no pools are told they follow from the devices. Raises Invalid. What it returns is
        within the bounds of `capacity_rules`.
        """
        if not report.HasField("compact"):
            return _told_whole(codec_capacity.capacity_from_proto(report.capacity))
        message = report.compact
        if message.base == 0:
            self._take(report.sequence, message)
        elif message.base != self._base:
            return None
        return Told(
            Capacity(
                devices=self._devices,
                pools=self._numbered(message),
                observed_at=codec_trust.utc_or_none(message.observed_at_unix_ms),
                age_s=checked_age(message.age_s),
                reason=message.reason[:MAX_WORDS],
                waiting=message.waiting,
            ),
            use_from_proto(message.use),
        )

    def _take(self, sequence: int, message: pb.CompactCapacity) -> None:
        self._base = 0  # should it be malformed, no later report may lean on it
        nodes = Nodes.from_proto(message.nodes)
        self._devices = checked_devices(devices_from_columns(message.devices, nodes))
        pools = checked_pools(pools_from_columns(message.pools, nodes))
        self._untold = pools or pools_of(self._devices)
        self._pools, self._numbers = self._untold, _NO_NUMBERS
        self._base = sequence

    def _numbered(self, message: pb.CompactCapacity) -> tuple[Pool, ...]:
        numbers = tuple(message.free), tuple(message.ours)
        if numbers == _NO_NUMBERS:
            return self._untold
        if numbers != self._numbers:
            if not len(numbers[0]) == len(numbers[1]) == len(self._untold):
                raise Invalid("the numbers of pools are not as many as the pools.")
            self._pools = checked_pools(
                tuple(
                    replace(pool, free=free, ours=ours)
                    for pool, free, ours in zip(self._untold, *numbers, strict=True)
                )
            )
            self._numbers = numbers
        return self._pools


def _told_whole(capacity: Capacity) -> Told:
    """Return what a report tells that is not compact."""
    devices = checked_devices(_at_rest(capacity.devices))
    told = replace(
        capacity,
        devices=devices,
        pools=checked_pools(capacity.pools) or pools_of(devices),
        age_s=checked_age(capacity.age_s),
        reason=capacity.reason[:MAX_WORDS],
    )
    return Told(told, use_columns(capacity.devices))


def _at_rest(devices: Iterable[Device]) -> tuple[Device, ...]:
    return tuple(d if d.use is None else replace(d, use=None) for d in devices)


def _fixed(pools: Iterable[Pool]) -> tuple[Pool, ...]:
    """Return the pools without what changes all the time."""
    return tuple(replace(pool, free=0, ours=0) for pool in pools)
