"""What of a cluster's word about itself is taken: bounds on texts and counts, numbers that add up.

Input: devices, pools, versions as an agent told of them. Output: the same within bounds; raises
Invalid for what is no report of devices at all. Numbers that contradict each other are cut to the
smaller ones, and the pool's reason says so: a pool is never freer than it is whole.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from federation.contract.capacity import Calibration, Device, Pool
from federation.contract.errors import Invalid
from federation.contract.types import ObservedVersion

MAX_DEVICES = 10_000
MAX_POOLS = 10_000
MAX_NAME = 512  # characters of a device's id, a node's name
MAX_WORDS = 1024  # characters of a reason
MAX_MEMORY_MIB = 2**40
MAX_AGE_S = 1e9
_MAX_AMOUNT = 1e12


def checked_devices(devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """Return devices within bounds; raises Invalid."""
    if len(devices) > MAX_DEVICES:
        raise Invalid(f"a report lists more than {MAX_DEVICES} devices.")
    _check_names("device", (name for d in devices for name in (d.id, d.node, d.parent)))
    described = ((d.vendor, d.product, d.source, d.profile, d.architecture) for d in devices)
    _check_names("device", (name for each in described for name in each))
    _check_names("device", (d.compute_capability for d in devices))
    return tuple(_checked_device(device) for device in devices)


def checked_pools(pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
    """Return pools within bounds whose numbers add up; raises Invalid."""
    if len(pools) > MAX_POOLS:
        raise Invalid(f"a report lists more than {MAX_POOLS} pools.")
    described = (
        (p.node, p.resource, p.vendor, p.product, p.architecture, p.compute_capability, p.profile)
        for p in pools
    )
    _check_names("pool", (name for each in described for name in each))
    return tuple(_checked_pool(pool) for pool in pools)


def checked_age(seconds: float) -> float:
    """Return how old a picture is; what is no number tells nothing good."""
    return min(max(seconds, 0.0), MAX_AGE_S) if math.isfinite(seconds) else MAX_AGE_S


def checked_version(version: ObservedVersion) -> ObservedVersion:
    """Return a version whose measured numbers are finite and not negative."""
    rate, latency = _amount(version.rate), _amount(version.latency_ms)
    calibration = _checked_calibration(version.calibration)
    if (rate, latency, calibration) == (version.rate, version.latency_ms, version.calibration):
        return version
    return replace(version, rate=rate, latency_ms=latency, calibration=calibration)


def _checked_calibration(calibration: Calibration | None) -> Calibration | None:
    if calibration is None:
        return None
    checked = replace(
        calibration,
        per_second=_amount(calibration.per_second),
        latency_ms=_amount(calibration.latency_ms),
        unit=calibration.unit[:32],
    )
    return checked if checked.per_second else None


def _checked_device(device: Device) -> Device:
    if device.memory_mib <= MAX_MEMORY_MIB and len(device.reason) <= MAX_WORDS:
        return device
    memory = min(device.memory_mib, MAX_MEMORY_MIB)
    return replace(device, memory_mib=memory, reason=device.reason[:MAX_WORDS])


def _checked_pool(pool: Pool) -> Pool:
    allocatable = min(pool.allocatable, pool.total)
    free = min(pool.free, allocatable)
    ours = min(pool.ours, allocatable - free)
    reason = pool.reason
    if (allocatable, free, ours) != (pool.allocatable, pool.free, pool.ours):
        told = (
            f"its agent told {pool.total} in all, {pool.allocatable} allocatable, {pool.free} "
            f"free, {pool.ours} ours: this cannot be, the smaller ones count"
        )
        reason = f"{reason}; {told}" if reason else told
    return replace(
        pool,
        memory_mib=min(pool.memory_mib, MAX_MEMORY_MIB),
        allocatable=allocatable,
        free=free,
        ours=ours,
        reason=reason[:MAX_WORDS],
    )


def _check_names(what: str, names: Iterable[str]) -> None:
    if any(len(name) > MAX_NAME for name in names):
        raise Invalid(f"a text of a {what} is longer than {MAX_NAME} characters.")


def _amount(value: float) -> float:
    return min(max(value, 0.0), _MAX_AMOUNT) if math.isfinite(value) else 0.0
