"""What a cluster has: devices of several inventories made one list, and the report that tells it.

Input: what each inventory saw, and what the reconciler observed. Output: a Report for the link.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from federation.contract.capacity import Capacity, Device, pools_of
from federation.contract.sync import Disk
from federation.contract.types import Observed, Report


def merge(seen: Sequence[Capacity]) -> Capacity:
    """Return what several inventories of one cluster saw as one picture.

    Each device is there once, by id; the first inventory that saw it tells what it is. A device
    that any inventory calls unhealthy is unhealthy. Devices without an id are all kept. Pools are
    those of the first inventory that has some (a scheduler's), else they follow from the devices.
    """
    devices = merge_devices(capacity.devices for capacity in seen)
    pools = next((capacity.pools for capacity in seen if capacity.pools), None)
    return Capacity(
        devices=devices,
        pools=pools_of(devices) if pools is None else pools,
        age_s=max((capacity.age_s for capacity in seen), default=0.0),
        reason="; ".join(dict.fromkeys(c.reason for c in seen if c.reason)),
        waiting=max((capacity.waiting for capacity in seen), default=0),
    )


def merge_devices(seen: Iterable[Iterable[Device]]) -> tuple[Device, ...]:
    """Return each device once, by id."""
    devices: dict[str, Device] = {}
    for number, device in enumerate(d for inventory in seen for d in inventory):
        known = devices.setdefault(device.id or f"\x00{number}", device)
        if known.healthy and not device.healthy:
            devices[device.id] = replace(known, healthy=False)
    return tuple(devices.values())


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
    resting = tuple(replace(v, in_flight=0, sync=None) for v in observed.versions)
    return replace(observed, versions=resting)
