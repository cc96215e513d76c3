"""The shapes of what is told about devices, pools and load; a part of `documents`.

Input: none. Output: types whose schemas describe what `policy.capacity_view` shows.
"""

from dataclasses import dataclass

from federation.contract.capacity import Calibration, Sharing
from federation.contract.types import VersionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What workloads of a cluster can be given, in sum. `largest_block` is the most that one of
    them could get on one node; others of the cluster wait for `waiting` units."""

    total: int
    allocatable: int
    free: int
    ours: int
    largest_block: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityStatus:
    """What a cluster has and how busy it is; null = nobody tells. `age_s` is how old the picture
    is, `reason` why it is old or what could not be seen."""

    units: Units
    unhealthy: int
    memory_mib: int
    memory_used_mib: int | None
    utilization: float | None
    power_w: float | None
    age_s: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """One model version at a cluster. `rate` (a second) and `latency_ms` (median) are those of the
    last ten seconds; `queued` is null where nothing tells."""

    model: str
    version: int
    state: VersionState
    reason: str
    stage_only: bool
    replicas: int
    in_flight: int
    queued: int | None
    rate: float
    latency_ms: float
    calibration: Calibration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One device of a cluster; null = its source cannot tell. `utilization` is 0 to 1."""

    cluster: str
    region: str
    node: str
    id: str
    vendor: str
    product: str
    profile: str
    parent: str
    memory_mib: int
    memory_used_mib: int | None
    utilization: float | None
    temperature_c: float | None
    power_w: float | None
    healthy: bool
    reason: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """All devices, ordered by cluster, node and id."""

    items: tuple[DeviceRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """Equal units on one node of a cluster. `memory_mib` is what one of them may count on."""

    cluster: str
    region: str
    node: str
    resource: str
    vendor: str
    product: str
    profile: str
    sharing: Sharing
    memory_mib: int
    physical: int
    total: int
    allocatable: int
    free: int
    ours: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """All pools, ordered by cluster, node and resource."""

    items: tuple[PoolRow, ...]
