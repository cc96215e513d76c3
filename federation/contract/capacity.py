"""What a cluster has and what a model needs: devices, the units that are handed out, requirements.

Input: inventories of the edge agents build the former, model owners write the latter. Output:
values for placement and for people. Standard library only, so that deciders may use them.

A *device* is a piece of hardware (or a partition of one) that somebody saw by itself. A *unit* is
what one workload gets when it asks for 1 of a resource: a whole GPU, a MIG instance, one of the
replicas of a time-sliced GPU. A *pool* is the equal units of one node.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class Sharing(StrEnum):
    """How the units of a pool come out of its devices."""

    NONE = "none"  # a unit is a whole device
    PARTITION = "partition"  # hardware partitions with memory of their own (MIG, CPX)
    MPS = "mps"  # equal parts of a device's memory and compute
    TIME_SLICING = "time-slicing"  # taking turns; each sees all of the memory
    UNKNOWN = "unknown"  # a kind that a newer peer knows and we don't


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """What a device is doing now; None = its source cannot tell."""

    memory_mib: int | None = None
    utilization: float | None = None  # 0 to 1: the share of time in which it computed
    temperature_c: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator, or one hardware partition of it, as its cluster reports it."""

    id: str  # UUID or PCI bus id where known
    vendor: str
    product: str
    memory_mib: int  # 0 = not known
    healthy: bool = True
    source: str = ""  # which inventory saw it: "nvml", "declared", ...
    reason: str = ""  # why it is not healthy, in words
    node: str = ""  # the host that holds it
    parent: str = ""  # of a partition: the id of its device
    profile: str = ""  # of a partition: "1g.10gb", "cpx_nps4"
    architecture: str = ""  # "hopper", "gfx942"
    compute_capability: str = ""  # of NVIDIA: "9.0"
    use: DeviceUse | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Equal units on one node: what a workload can be given there.

    0 <= free <= allocatable <= total, ours <= allocatable - free. `memory_mib` is what one unit may
    count on (0 = not known; of a time-sliced device all of it, which its other users see as well).
    """

    node: str
    resource: str  # what a workload asks for: "nvidia.com/gpu", "nvidia.com/mig-1g.5gb", "gpu"
    vendor: str
    product: str = ""
    memory_mib: int = 0
    architecture: str = ""
    compute_capability: str = ""
    profile: str = ""
    sharing: Sharing = Sharing.NONE
    physical: int = 0  # devices behind it, healthy or not; one behind several counts at the first
    total: int = 0  # units, if all was well
    allocatable: int = 0  # units of healthy devices
    free: int = 0  # units that a new workload could get; 0 where a node takes none
    ours: int = 0  # units that replicas of this federation hold
    reason: str = ""  # why less is free or allocatable than the numbers suggest, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a cluster says it has.

    `observed_at` is the agent's clock: for display only. `age_s` is how old the picture was when it
    was reported, by the agent's monotonic clock; `reason` says why it is old, or what could not be
    seen. `waiting` counts units that workloads of the cluster wait for.
    """

    devices: tuple[Device, ...] = ()
    pools: tuple[Pool, ...] = ()
    observed_at: datetime | None = None
    age_s: float = 0.0
    reason: str = ""
    waiting: int = 0

    @property
    def gpus(self) -> int:
        """Number of healthy physical devices; on nodes where none is seen by itself, of those
        behind pools. Where there are pools, they know all nodes."""
        nodes = {pool.node for pool in self.pools}
        listed = [device for device in self.devices if not nodes or device.node in nodes]
        alone = {d.parent or d.id or str(n) for n, d in enumerate(listed) if d.healthy}
        seen = {device.node for device in listed}
        rest = (pool for pool in self.pools if pool.allocatable and pool.node not in seen)
        return len(alone) + sum(pool.physical for pool in rest)

    @property
    def free(self) -> int:
        """Units that new workloads could get, in sum."""
        return sum(pool.free for pool in self.pools)

    @property
    def largest_block(self) -> int:
        """The most units that one workload on one node could get of one kind."""
        return max((pool.free for pool in self.pools), default=0)

    def at_rest(self) -> "Capacity":
        """Return it without what changes all the time: use, age, moments."""
        devices = self.devices
        if any(device.use is not None for device in devices):
            devices = tuple(replace(device, use=None) for device in devices)
        return Capacity(devices=devices, pools=self.pools, reason=self.reason, waiting=self.waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What one cluster's replicas of a version can do together, as measured there after warm-up.

    `per_second` units of work (`unit`: "inferences" or "tokens") at `concurrency` requests in
    flight, at a median latency of `latency_ms` (of text: until the first token).
    """

    per_second: float
    latency_ms: float
    concurrency: int
    unit: str = "inferences"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one replica of a model needs, all of it on one node.

    `gpus` units, each with at least `memory_mib`. With a `fraction` (0 < fraction < 1, gpus = 1)
    replicas share a unit; their fractions and their memory add up. `vendor` and `architecture` are
    compared without regard to case; `products` and `profile` are shell patterns ("*H100*",
    "1g.*gb"); one of `products` must match. `profile` asks for a partition. `exclusive` refuses
    units that share one device by turns or by MPS. Empty or 0 = anything.
    """

    gpus: int = 0
    memory_mib: int = 0
    fraction: float = 0.0
    vendor: str = ""
    products: tuple[str, ...] = ()
    architecture: str = ""
    min_compute_capability: str = ""
    profile: str = ""
    exclusive: bool = False


GPU = "gpu"  # the resource of pools on plain servers


def pools_of(devices: Iterable[Device]) -> tuple[Pool, ...]:
    """Return the pools of devices on which nobody but this federation hands out units.

    Equal devices of a node are one pool; all healthy ones are free. A device with partitions is
    represented by these.
    """
    listed = tuple(devices)
    cut = {device.parent for device in listed if device.parent}
    groups: dict[tuple[str, ...], list[Device]] = {}
    for device in listed:
        if device.id and device.id in cut:
            continue
        key = (
            device.node,
            device.vendor,
            device.product,
            f"{device.memory_mib:012d}",
            device.architecture,
            device.compute_capability,
            device.profile,
        )
        groups.setdefault(key, []).append(device)
    return tuple(_pool(groups[key]) for key in sorted(groups))


def _distinct(devices: Iterable[Device]) -> int:
    """How many physical devices these are."""
    return len({device.parent or device.id or str(n) for n, device in enumerate(devices)})


def _pool(devices: list[Device]) -> Pool:
    first, healthy = devices[0], sum(device.healthy for device in devices)
    reasons = dict.fromkeys(d.reason or "unhealthy" for d in devices if not d.healthy)
    return Pool(
        node=first.node,
        resource=GPU,
        vendor=first.vendor,
        product=first.product,
        memory_mib=first.memory_mib,
        architecture=first.architecture,
        compute_capability=first.compute_capability,
        profile=first.profile,
        sharing=Sharing.PARTITION if first.profile or first.parent else Sharing.NONE,
        physical=_distinct(devices),
        total=len(devices),
        allocatable=healthy,
        free=healthy,
        reason="; ".join(reasons),
    )
