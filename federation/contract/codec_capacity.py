"""Where capacities and requirements meet protobuf.

Input: our types or protobuf messages. Output: the other. Unknown enum values become UNKNOWN.
"""

from datetime import datetime

from federation.contract import codec_trust
from federation.contract.capacity import (
    Calibration,
    Capacity,
    Device,
    DeviceUse,
    Pool,
    Resources,
    Sharing,
)
from federation.contract.v1 import federation_pb2 as pb

_SHARING = {
    Sharing.NONE: pb.SHARING_UNSPECIFIED,
    Sharing.PARTITION: pb.SHARING_PARTITION,
    Sharing.MPS: pb.SHARING_MPS,
    Sharing.TIME_SLICING: pb.SHARING_TIME_SLICING,
    Sharing.UNKNOWN: pb.SHARING_UNSPECIFIED,
}
_FROM_SHARING = {number: kind for kind, number in _SHARING.items() if kind is not Sharing.UNKNOWN}


def unix_ms(moment: datetime | None) -> int:
    """Return a moment as milliseconds since 1970; 0 = not given."""
    return round(moment.timestamp() * 1000) if moment else 0


def capacity_to_proto(capacity: Capacity) -> pb.Capacity:
    """Encode what a cluster has."""
    return pb.Capacity(
        devices=[device_to_proto(device) for device in capacity.devices],
        pools=[pool_to_proto(pool) for pool in capacity.pools],
        observed_at_unix_ms=unix_ms(capacity.observed_at),
        age_s=capacity.age_s,
        reason=capacity.reason,
        waiting=capacity.waiting,
    )


def capacity_from_proto(message: pb.Capacity) -> Capacity:
    """Decode what a cluster has."""
    return Capacity(
        devices=tuple(device_from_proto(device) for device in message.devices),
        pools=tuple(pool_from_proto(pool) for pool in message.pools),
        observed_at=codec_trust.utc_or_none(message.observed_at_unix_ms),
        age_s=message.age_s,
        reason=message.reason,
        waiting=message.waiting,
    )


def device_to_proto(device: Device) -> pb.Device:
    """Encode a device."""
    return pb.Device(
        id=device.id,
        vendor=device.vendor,
        product=device.product,
        memory_mib=device.memory_mib,
        unhealthy=not device.healthy,
        source=device.source,
        reason=device.reason,
        node=device.node,
        parent=device.parent,
        profile=device.profile,
        architecture=device.architecture,
        compute_capability=device.compute_capability,
        use=_use_to_proto(device.use),
    )


def device_from_proto(message: pb.Device) -> Device:
    """Decode a device."""
    return Device(
        id=message.id,
        vendor=message.vendor,
        product=message.product,
        memory_mib=message.memory_mib,
        healthy=not message.unhealthy,
        source=message.source,
        reason=message.reason,
        node=message.node,
        parent=message.parent,
        profile=message.profile,
        architecture=message.architecture,
        compute_capability=message.compute_capability,
        use=_use_from_proto(message.use) if message.HasField("use") else None,
    )


def _use_to_proto(use: DeviceUse | None) -> pb.DeviceUse | None:
    if use is None:
        return None
    return pb.DeviceUse(
        memory_mib=use.memory_mib,
        utilization=use.utilization,
        temperature_c=use.temperature_c,
        power_w=use.power_w,
    )


def _use_from_proto(message: pb.DeviceUse) -> DeviceUse:
    return DeviceUse(
        memory_mib=message.memory_mib if message.HasField("memory_mib") else None,
        utilization=message.utilization if message.HasField("utilization") else None,
        temperature_c=message.temperature_c if message.HasField("temperature_c") else None,
        power_w=message.power_w if message.HasField("power_w") else None,
    )


def pool_to_proto(pool: Pool) -> pb.Pool:
    """Encode a pool."""
    return pb.Pool(
        node=pool.node,
        resource=pool.resource,
        vendor=pool.vendor,
        product=pool.product,
        memory_mib=pool.memory_mib,
        architecture=pool.architecture,
        compute_capability=pool.compute_capability,
        profile=pool.profile,
        sharing=_SHARING[pool.sharing],
        physical=pool.physical,
        total=pool.total,
        allocatable=pool.allocatable,
        free=pool.free,
        ours=pool.ours,
        reason=pool.reason,
    )


def pool_from_proto(message: pb.Pool) -> Pool:
    """Decode a pool."""
    return Pool(
        node=message.node,
        resource=message.resource,
        vendor=message.vendor,
        product=message.product,
        memory_mib=message.memory_mib,
        architecture=message.architecture,
        compute_capability=message.compute_capability,
        profile=message.profile,
        sharing=_FROM_SHARING.get(message.sharing, Sharing.UNKNOWN),
        physical=message.physical,
        total=message.total,
        allocatable=message.allocatable,
        free=message.free,
        ours=message.ours,
        reason=message.reason,
    )


def resources_to_proto(needs: Resources) -> pb.Resources | None:
    """Encode what a replica needs; nothing is needed by default."""
    if needs == Resources():  # most models say nothing
        return None
    return pb.Resources(
        gpus=needs.gpus,
        memory_mib=needs.memory_mib,
        fraction=needs.fraction,
        vendor=needs.vendor,
        products=needs.products,
        architecture=needs.architecture,
        min_compute_capability=needs.min_compute_capability,
        profile=needs.profile,
        exclusive=needs.exclusive,
    )


def resources_from_proto(message: pb.Resources) -> Resources:
    """Decode what a replica needs."""
    return Resources(
        gpus=message.gpus,
        memory_mib=message.memory_mib,
        fraction=message.fraction,
        vendor=message.vendor,
        products=tuple(message.products),
        architecture=message.architecture,
        min_compute_capability=message.min_compute_capability,
        profile=message.profile,
        exclusive=message.exclusive,
    )


def calibration_to_proto(calibration: Calibration | None) -> pb.Calibration | None:
    """Encode what was measured."""
    if calibration is None:
        return None
    return pb.Calibration(
        per_second=calibration.per_second,
        latency_ms=calibration.latency_ms,
        concurrency=calibration.concurrency,
        unit=calibration.unit,
    )


def calibration_from_proto(message: pb.Calibration) -> Calibration:
    """Decode what was measured."""
    return Calibration(
        per_second=message.per_second,
        latency_ms=message.latency_ms,
        concurrency=message.concurrency,
        unit=message.unit,
    )
