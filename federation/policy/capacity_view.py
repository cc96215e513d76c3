"""What clusters have and how busy it is, for people: sums, devices, pools, load of versions.

Input: a State. Output: parts of the documents of clusters, rows for `fed top` and `fed describe`,
sums for metrics. The numbers are those of the newest reports; after a restart of the control plane
those that change all the time come back with the next ones.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from federation.contract.capacity import GPU, Calibration, Capacity, Device, Pool
from federation.contract.device_use import UseColumns, with_use
from federation.contract.types import ObservedVersion
from federation.policy.plain import Json
from federation.policy.records import ClusterRecord
from federation.policy.standing import reserved
from federation.policy.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacitySums:
    """What a cluster has, in sum. `utilization` is the mean of those devices that tell it.

    `memory_mib` is that of the devices which tell how much is used of it; if none does, of all
    healthy ones.
    """

    healthy: int = 0  # physical devices
    unhealthy: int = 0
    total: int = 0  # units
    allocatable: int = 0
    free: int = 0
    ours: int = 0
    largest_block: int = 0
    waiting: int = 0
    memory_mib: int = 0
    memory_used_mib: int | None = None
    utilization: float | None = None
    power_w: float | None = None


def capacity_seen(state: State, record: ClusterRecord) -> tuple[Capacity, UseColumns]:
    """Return the newest that is known of what a cluster has, and what it does."""
    report, use = state.reports.get(record.meta.name), UseColumns()
    capacity = record.last.capacity if record.last else Capacity()
    if report is not None:
        capacity, use = report.capacity, report.use
    return replace(capacity, pools=_counted(capacity.pools, record)), use


def _counted(pools: tuple[Pool, ...], record: ClusterRecord) -> tuple[Pool, ...]:
    """Return pools without what was given to versions.

    On plain servers nobody there counts: all healthy devices are told as free.
    """
    if any(pool.resource != GPU or pool.ours for pool in pools):
        return pools
    left = sum(
        math.ceil(reserved(v) * (v.needs.fraction or v.needs.gpus))
        for v in record.assignment.versions
        if not v.stage_only
    )
    counted = []
    for pool in pools:
        held = min(left, pool.free)
        left -= held
        counted.append(replace(pool, free=pool.free - held, ours=held) if held else pool)
    return tuple(counted)


def capacity_age_s(state: State, record: ClusterRecord, now: datetime) -> float | None:
    """Return how old the picture of a cluster's devices is by now; None = there is none yet."""
    report = state.reports.get(record.meta.name)
    presence = state.presences.get(record.meta.name)
    if report is None or presence is None or presence.reported_at is None:
        return None
    return report.capacity.age_s + max((now - presence.reported_at).total_seconds(), 0.0)


def capacity_sums(capacity: Capacity, use: UseColumns) -> CapacitySums:
    """Return what a cluster has, in sum."""
    devices, pools = capacity.devices, capacity.pools
    physical = len({d.parent or d.id or str(n) for n, d in enumerate(devices)})
    if not devices:
        physical = sum(pool.physical for pool in pools)
    told = [(d, use.at(n)) for n, d in enumerate(devices)]
    memory = [(d.memory_mib, u.memory_mib) for d, u in told if u and u.memory_mib is not None]
    busy = [u.utilization for _, u in told if u and u.utilization is not None]
    power = [u.power_w for _, u in told if u and u.power_w is not None]
    return CapacitySums(
        healthy=capacity.gpus,
        unhealthy=max(physical - capacity.gpus, 0),
        total=sum(pool.total for pool in pools),
        allocatable=sum(pool.allocatable for pool in pools),
        free=capacity.free,
        ours=sum(pool.ours for pool in pools),
        largest_block=capacity.largest_block,
        waiting=capacity.waiting,
        memory_mib=sum(whole for whole, _ in memory)
        or sum(d.memory_mib for d in devices if d.healthy),
        memory_used_mib=sum(used for _, used in memory) if memory else None,
        utilization=round(sum(busy) / len(busy), 3) if busy else None,
        power_w=round(sum(power)) if power else None,
    )


def capacity_status(state: State, record: ClusterRecord, now: datetime) -> Json:
    """Return what a cluster has, as its document tells it."""
    capacity, use = capacity_seen(state, record)
    sums, age_s = capacity_sums(capacity, use), capacity_age_s(state, record, now)
    return {
        "units": {
            "total": sums.total,
            "allocatable": sums.allocatable,
            "free": sums.free,
            "ours": sums.ours,
            "largest_block": sums.largest_block,
            "waiting": sums.waiting,
        },
        "unhealthy": sums.unhealthy,
        "memory_mib": sums.memory_mib,
        "memory_used_mib": sums.memory_used_mib,
        "utilization": sums.utilization,
        "power_w": sums.power_w,
        "age_s": None if age_s is None else round(age_s, 1),
        "reason": capacity.reason,
    }


def gpu_products(capacity: Capacity) -> dict[str, int]:
    """Return how many healthy devices, or else units, there are of each product."""
    found: dict[str, int] = {}
    if capacity.devices:
        for device in capacity.devices:
            if device.healthy:
                found[device.product] = found.get(device.product, 0) + 1
    else:
        for pool in capacity.pools:
            if pool.allocatable:
                name = pool.product or pool.resource
                found[name] = found.get(name, 0) + pool.allocatable
    return dict(sorted(found.items()))


def device_rows(state: State) -> Iterator[Json]:
    """Yield a row for each device of the federation, ordered by cluster, node and id."""
    for name, record in sorted(state.clusters.items()):
        capacity, use = capacity_seen(state, record)
        devices = sorted(with_use(capacity.devices, use), key=lambda d: (d.node, d.id))
        for device in devices:
            yield {"cluster": name, "region": record.spec.region, **_device(device)}


def _device(device: Device) -> Json:
    use = device.use
    return {
        "node": device.node,
        "id": device.id,
        "vendor": device.vendor,
        "product": device.product,
        "profile": device.profile,
        "parent": device.parent,
        "memory_mib": device.memory_mib,
        "memory_used_mib": use.memory_mib if use else None,
        "utilization": use.utilization if use else None,
        "temperature_c": use.temperature_c if use else None,
        "power_w": use.power_w if use else None,
        "healthy": device.healthy,
        "reason": device.reason,
        "source": device.source,
    }


def pool_rows(state: State) -> Iterator[Json]:
    """Yield a row for each pool of the federation, ordered by cluster, node and resource."""
    for name, record in sorted(state.clusters.items()):
        capacity, _ = capacity_seen(state, record)
        for pool in sorted(capacity.pools, key=lambda p: (p.node, p.resource, p.product)):
            yield {
                "cluster": name,
                "region": record.spec.region,
                "node": pool.node,
                "resource": pool.resource,
                "vendor": pool.vendor,
                "product": pool.product,
                "profile": pool.profile,
                "sharing": pool.sharing.value,
                "memory_mib": pool.memory_mib,
                "physical": pool.physical,
                "total": pool.total,
                "allocatable": pool.allocatable,
                "free": pool.free,
                "ours": pool.ours,
                "reason": pool.reason,
            }


def version_load(seen: ObservedVersion) -> Json:
    """Return how busy a version is at a cluster, and what it can do there."""
    return {
        "replicas": seen.replicas,
        "in_flight": seen.in_flight,
        "queued": seen.queued,
        "rate": round(seen.rate, 2),
        "latency_ms": round(seen.latency_ms, 2),
        "calibration": _calibration(seen.calibration),
    }


def _calibration(calibration: Calibration | None) -> Json | None:
    if calibration is None:
        return None
    return {
        "per_second": round(calibration.per_second, 2),
        "latency_ms": round(calibration.latency_ms, 2),
        "concurrency": calibration.concurrency,
        "unit": calibration.unit,
    }


def only(rows: Iterable[Json], wanted: Json) -> list[Json]:
    """Return the rows that have all the wanted values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]
