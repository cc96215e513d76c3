"""What a cluster has: devices of several inventories made one list, and the report that tells it.

Input: what each inventory saw, and what the reconciler observed. Output: a Report for the link.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace

from federation.contract.capacity import Capacity, Device, DeviceUse, pools_of
from federation.contract.sync import Disk
from federation.contract.types import Observed, Report


def merge(
    seen: Sequence[Capacity],
    *,
    telling: Sequence[Capacity] = (),
    names: Mapping[str, str] | None = None,
) -> Capacity:
    """Return what several inventories of one cluster saw as one picture.

    Each device is there once, by id; `names` gives the id to devices that are named otherwise (by
    PCI bus id). The first inventory that saw a device tells what it is, later ones what the first
    does not know. Devices of `telling` are never added: they only tell more of those that others
    saw. Pools are those of the first inventory that has some (a scheduler's), else they follow from
    the devices.
    """
    names = names or {}
    devices = merge_devices([_named(capacity.devices, names) for capacity in seen])
    devices = _told_more(devices, [_named(capacity.devices, names) for capacity in telling])
    every = (*seen, *telling)
    pools = next((capacity.pools for capacity in seen if capacity.pools), None)
    return Capacity(
        devices=devices,
        pools=pools_of(devices) if pools is None else pools,
        age_s=max((capacity.age_s for capacity in seen), default=0.0),
        reason="; ".join(dict.fromkeys(c.reason for c in every if c.reason)),
        waiting=max((capacity.waiting for capacity in seen), default=0),
    )


def merge_devices(seen: Iterable[Iterable[Device]]) -> tuple[Device, ...]:
    """Return each device once, by id; devices without an id are all kept.

    A GPU and its partitions are never both counted: the first inventory that saw it tells whether
    it is cut. A partition that a later inventory calls otherwise (exporters know no MIG UUIDs) is
    the one of the same profile, if there is just one.
    """
    devices: dict[str, Device] = {}
    for number, inventory in enumerate(seen):
        before = tuple(devices.values())
        for index, device in enumerate(inventory):
            known = _same(device, devices, before)
            if known is not None:
                devices[known.id] = joined(known, device)
            elif not device.id:
                devices[f"\x00{number}.{index}"] = device
            elif not _counted(device, before):
                devices[device.id] = device
    return tuple(devices.values())


def joined(first: Device, other: Device) -> Device:
    """Return `first` with what only `other` knows; a device that either calls sick is sick."""
    use = first.use or other.use
    if first.use and other.use:
        told = {f.name: getattr(first.use, f.name) for f in fields(DeviceUse)}
        unknown = (name for name, value in told.items() if value is None)
        use = replace(first.use, **{name: getattr(other.use, name) for name in unknown})
    reasons = dict.fromkeys(d.reason for d in (first, other) if not d.healthy and d.reason)
    return replace(
        first,
        product=first.product or other.product,
        memory_mib=first.memory_mib or other.memory_mib,
        healthy=first.healthy and other.healthy,
        reason="; ".join(reasons),
        node=first.node or other.node,
        parent=first.parent or other.parent,
        profile=first.profile or other.profile,
        architecture=first.architecture or other.architecture,
        compute_capability=first.compute_capability or other.compute_capability,
        use=use,
    )


def sick(devices: Iterable[Device], reason: str) -> tuple[Device, ...]:
    """Return devices that nobody can look into any more."""
    return tuple(replace(d, healthy=False, reason=d.reason or reason, use=None) for d in devices)


def bus_id(text: str) -> str:
    """Return a PCI bus id in the one form that names of devices are compared in:
    "00000000:2F:00.0" and "2f:00.0" are both "0000:2f:00.0"."""
    parts = text.strip().lower().split(":")
    if len(parts) == 1:
        return text
    if len(parts) == 2:
        parts.insert(0, "0000")
    return ":".join((parts[0].lstrip("0").zfill(4), *parts[1:]))


def _named(devices: Iterable[Device], names: Mapping[str, str]) -> tuple[Device, ...]:
    return tuple(replace(d, id=_name(d.id, names), parent=_name(d.parent, names)) for d in devices)


def _name(id: str, names: Mapping[str, str]) -> str:
    return names.get(id) or (names.get(bus_id(id), id) if ":" in id else id)


def _same(device: Device, devices: dict[str, Device], before: Sequence[Device]) -> Device | None:
    """Return the device that this one is, if it was seen."""
    if device.id in devices:
        return devices[device.id]
    if not device.parent:
        return None
    alike = [d for d in before if (d.parent, d.profile) == (device.parent, device.profile)]
    return alike[0] if len(alike) == 1 else None


def _counted(device: Device, before: Sequence[Device]) -> bool:
    """Whether its hardware is there already, cut in another way."""
    if device.parent:
        return any(device.parent in (known.id, known.parent) for known in before)
    return any(device.id == known.parent for known in before)


def _told_more(
    devices: Sequence[Device], telling: Iterable[Iterable[Device]]
) -> tuple[Device, ...]:
    told = {device.id or f"\x00{number}": device for number, device in enumerate(devices)}
    for device in (d for inventory in telling for d in inventory):
        known = _same(device, told, devices) if device.id else None
        if known is not None:
            told[known.id] = joined(known, device)
    return tuple(told.values())


def make_report(
    *,
    cluster: str,
    stamp: tuple[int, int],
    capacity: Capacity,
    observed: Observed,
    url: str,
    disk: Disk | None = None,
) -> Report:
    """Return what is sent up; `stamp` is the (epoch, sequence) that orders it."""
    epoch, sequence = stamp
    return Report(
        cluster=cluster,
        epoch=epoch,
        sequence=sequence,
        capacity=capacity,
        observed=observed,
        url=url,
        disk=disk or Disk(),
    )


def same_in_kind(one: Observed | None, other: Observed) -> bool:
    """Whether two observations differ in nothing but how busy the versions are, and how far their
    transfers."""
    return one is not None and _at_rest(one) == _at_rest(other)


def _at_rest(observed: Observed) -> Observed:
    resting = tuple(
        replace(v, in_flight=0, queued=None, rate=0.0, latency_ms=0.0, sync=None)
        for v in observed.versions
    )
    return replace(observed, versions=resting)
