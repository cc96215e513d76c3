"""Pools of the devices that drivers of dynamic resource allocation hand out.

Input: the slices of one driver's pool, which devices claims hold. Output: pools and devices, by
node.

Only complete lists of the newest generation count. Ways to cut one device exclude each other: they
draw on shared counters. So what is free is a set that could be handed out all at once: a device
that nobody cut counts as a whole one; of what is left of a cut one, the largest parts that fit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import ceil

from edge_agent.policy.kube.fields import told
from edge_agent.policy.kube.slices import DeviceClass, Hold, Slice, SliceDevice
from federation.contract.capacity import Device, Pool, Sharing

SOURCE = "dra"

_CLASS_OF_MIG = "mig.nvidia.com"  # what NVIDIA's driver installs
_Counters = dict[tuple[str, str], Decimal]


@dataclass(frozen=True, slots=True)
class _Taken:
    """How many shares of a device claims hold, and how many for pods of this federation."""

    shares: int = 0
    ours: int = 0


_FREE = _Taken()


@dataclass(slots=True)
class _Tally:
    total: int = 0
    allocatable: int = 0
    free: int = 0
    ours: int = 0
    parents: set[str] = field(default_factory=set)
    taints: list[str] = field(default_factory=list)

    def add(self, device: SliceDevice, taken: _Taken) -> None:
        """Count a device, with all that can share it."""
        self.total += device.parts
        if device.taint:
            self.taints.append(device.taint)
            return
        self.allocatable += device.parts
        self.free += max(0, device.parts - taken.shares)
        self.ours += min(taken.ours, device.parts)


@dataclass(frozen=True, slots=True)
class Listed:
    """What a pool of devices comes to, by node; `reason` is why it could not be counted."""

    pools: Mapping[str, tuple[Pool, ...]] = field(default_factory=dict)
    devices: Mapping[str, tuple[Device, ...]] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the slices of one pool say, whoever holds devices of it: each device with the number of
    its kind, in the order in which they are counted; or, as `reason`, why they cannot be."""

    devices: tuple[tuple[SliceDevice, int], ...] = ()
    by_name: Mapping[str, SliceDevice] = field(default_factory=dict)
    kinds: tuple[Pool, ...] = ()  # in order
    counters: Mapping[tuple[str, str], Decimal] = field(default_factory=dict)
    shown: Mapping[str, tuple[Device, ...]] = field(default_factory=dict)
    reason: str = ""


def layout(slices: Iterable[Slice], classes: Sequence[DeviceClass]) -> Layout:
    """Return what the slices of one pool say; it stays while they and the classes do."""
    newest = _newest(list(slices))
    listed = [device for one in newest for device in one.devices]
    if not listed:
        return Layout()
    driver, name = newest[0].key
    if len(newest) != newest[0].slices:
        return Layout(
            reason=f"{driver} has listed {len(newest)} of {newest[0].slices} parts of {name}"
        )
    pools = [(device, _kind(device, driver, classes)) for device in listed]
    kinds = sorted(dict.fromkeys(kind for _, kind in pools), key=order)
    numbers = {kind: number for number, kind in enumerate(kinds)}
    pools.sort(key=lambda each: _first_counted(each[0]))
    return Layout(
        devices=tuple((device, numbers[kind]) for device, kind in pools),
        by_name={device.name: device for device in listed},
        kinds=tuple(kinds),
        counters={key: left for one in newest for key, left in one.counters.items()},
        shown=_devices(listed),
    )


def count(there: Layout, holds: Iterable[tuple[Hold, bool]]) -> Listed:
    """Return what a pool comes to; `holds` says of each whether it is ours."""
    if not there.devices:
        return Listed(reason=there.reason)
    taken = _taken(there.by_name, holds)
    tallies: dict[int, _Tally] = {}
    for device, number in _counted(there, taken):
        tally = tallies.setdefault(number, _Tally())
        tally.parents.add(device.parent or device.id or device.name)
        tally.add(device, taken.get(device.name, _FREE))
    pools: dict[str, tuple[Pool, ...]] = {}
    seen: dict[str, set[str]] = {}
    for number in sorted(tallies):
        kind, tally = there.kinds[number], tallies[number]
        before = seen.setdefault(kind.node, set())
        filled = _filled(kind, tally, physical=len(tally.parents - before))
        pools[kind.node] = (*pools.get(kind.node, ()), filled)
        before |= tally.parents
    return Listed(pools=pools, devices=there.shown)


def _newest(slices: list[Slice]) -> list[Slice]:
    generation = max((one.generation for one in slices), default=0)
    return sorted((s for s in slices if s.generation == generation), key=lambda s: s.name)


def _taken(
    devices: Mapping[str, SliceDevice], holds: Iterable[tuple[Hold, bool]]
) -> dict[str, _Taken]:
    """Return what is held, by name of device."""
    found: dict[str, _Taken] = {}
    for hold, ours in holds:
        device = devices.get(hold.device)
        steps = dict(device.steps) if device else {}
        shares = max((ceil(n / steps[c]) for c, n in hold.consumed if c in steps), default=1)
        old = found.get(hold.device, _FREE)
        found[hold.device] = _Taken(old.shares + shares, old.ours + (shares if ours else 0))
    return found


def _first_counted(device: SliceDevice) -> tuple[bool, bool, int, str]:
    """Healthy devices first, whole before parts, large before small."""
    return bool(device.taint), bool(device.parent), -device.memory_mib, device.name


def _counted(there: Layout, taken: Mapping[str, _Taken]) -> Iterator[tuple[SliceDevice, int]]:
    """Yield devices that can all be handed out beside each other: those in use first."""
    left: _Counters = dict(there.counters)
    used = [each for each in there.devices if each[0].name in taken]
    for device, kind in (*used, *(each for each in there.devices if each[0].name not in taken)):
        if device.name in taken or all(left.get(c, Decimal(0)) >= n for c, n in device.consumes):
            for counter, amount in device.consumes:
                left[counter] = left.get(counter, Decimal(0)) - amount
            yield device, kind


def _kind(device: SliceDevice, driver: str, classes: Sequence[DeviceClass]) -> Pool:
    """Return the pool of a device and its equals on its node, with no units yet."""
    return Pool(
        node=device.node,
        resource=_resource(device, driver, classes),
        vendor=device.vendor,
        product=device.product,
        memory_mib=device.memory_mib,
        architecture=device.architecture,
        compute_capability=device.compute_capability,
        profile=device.profile,
        sharing=_sharing(device),
    )


def _filled(kind: Pool, tally: _Tally, *, physical: int) -> Pool:
    reason = ""
    if tally.taints:
        n, taints = len(tally.taints), ", ".join(dict.fromkeys(tally.taints))
        what = "partitions" if kind.profile else "devices"
        reason = f"{n} of {tally.total} {what} {'is' if n == 1 else 'are'} tainted {taints}"
    return replace(
        kind,
        physical=physical,
        total=tally.total,
        allocatable=tally.allocatable,
        free=tally.free,
        ours=min(tally.ours, tally.allocatable - tally.free),
        reason=told([reason]),
    )


def order(pool: Pool) -> tuple[str, ...]:
    """Return by what pools are sorted."""
    return pool.node, pool.resource, pool.product, pool.profile, f"{pool.memory_mib:012d}"


def _sharing(device: SliceDevice) -> Sharing:
    if device.parent:
        return Sharing.PARTITION
    return Sharing.NONE if device.parts == 1 else Sharing.UNKNOWN


def _resource(device: SliceDevice, driver: str, classes: Sequence[DeviceClass]) -> str:
    """Return what a workload asks for: an extended resource where a class stands for one, else the
    class, with the profile of a partition."""
    fitting = [one for one in classes if one.driver == driver and one.kind in ("", device.kind)]
    named = sorted(one.resource for one in fitting if one.resource)
    if named:
        return named[0]
    best = sorted(fitting, key=lambda one: (not one.kind, one.name))
    default = _CLASS_OF_MIG if device.kind == "mig" else driver
    name = best[0].name if best else default
    return f"{name}/{device.profile}" if device.profile else name


def _devices(devices: Sequence[SliceDevice]) -> dict[str, tuple[Device, ...]]:
    """Return what is there in hardware: no mere ways to cut a device. One that can still be cut in
    some way is healthy."""
    usable = {device.parent for device in devices if not device.taint}
    found: dict[str, list[Device]] = {}
    for device in devices:
        if not device.id or (device.parent and device.consumes):
            continue
        ill = device.taint and device.id not in usable
        known = Device(
            id=device.id,
            vendor=device.vendor,
            product=device.product,
            memory_mib=device.memory_mib,
            healthy=not ill,
            source=SOURCE,
            reason=f"tainted {device.taint}" if ill else "",
            node=device.node,
            parent=device.parent,
            profile=device.profile,
            architecture=device.architecture,
            compute_capability=device.compute_capability,
        )
        found.setdefault(device.node, []).append(known)
    return {node: tuple(sorted(ds, key=lambda d: d.id)) for node, ds in found.items()}
