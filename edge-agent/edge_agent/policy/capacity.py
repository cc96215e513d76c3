"""What a cluster has: devices of several inventories made one list, and the report that tells it.

Input: what each inventory saw, and what the reconciler observed. Output: a Report for the link.
"""

from collections.abc import Iterable
from dataclasses import replace

from federation.contract.sync import Disk
from federation.contract.types import Capacity, Device, Observed, Report


def merge(seen: Iterable[Iterable[Device]]) -> tuple[Device, ...]:
    """Return each device once, by id; the first inventory that saw it tells what it is.

    A device that any inventory calls unhealthy is unhealthy. Devices without an id are all kept.
    """
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
