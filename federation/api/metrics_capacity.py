"""The control plane's numbers about what clusters have and how busy it is.

Input: the State. Output: families by cluster and resource: no node, device or model is a label, and
of resources a cluster has at most eight; the others are one, "other".
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from prometheus_client.core import Metric

from federation.api.families import gauge
from federation.contract.capacity import Capacity
from federation.policy.capacity_view import capacity_age_s, capacity_seen, capacity_sums
from federation.policy.standing import capacity_trouble
from federation.policy.state import State

MAX_RESOURCES = 8
MIB = 2**20
Values = dict[tuple[str, ...], float]


def capacity_families(state: State, now: datetime) -> Iterable[Metric]:
    """Yield all families."""
    gpus: Values = {}
    units: Values = {}
    per_cluster: dict[str, Values] = {name: {} for name in _TOLD}
    for name, record in state.clusters.items():
        if record.last is None:
            continue
        capacity, use = capacity_seen(state, record)
        sums, age_s = capacity_sums(capacity, use), capacity_age_s(state, record, now)
        gpus |= {(name, "healthy"): sums.healthy, (name, "unhealthy"): sums.unhealthy}
        units |= {(name, *key): count for key, count in _units(capacity).items()}
        memory = sums.memory_used_mib
        for family, value in (
            ("fed_cluster_gpu_utilization_ratio", sums.utilization),
            ("fed_cluster_gpu_memory_used_bytes", None if memory is None else memory * MIB),
            ("fed_cluster_gpu_memory_bytes", sums.memory_mib * MIB),
            ("fed_cluster_gpu_power_watts", sums.power_w),
            ("fed_cluster_largest_free_block", sums.largest_block),
            ("fed_cluster_waiting_units", sums.waiting),
            ("fed_cluster_capacity_age_seconds", age_s),
            ("fed_cluster_capacity_stale", bool(capacity_trouble(record))),
        ):
            if value is not None:
                per_cluster[family][name,] = value
    yield gauge("fed_cluster_gpus", "GPUs as reported.", gpus, "cluster", "state")
    told = "Units that workloads can be given, as reported; ours are held by this federation."
    yield gauge("fed_cluster_units", told, units, "cluster", "resource", "state")
    for family, told in _TOLD.items():
        yield gauge(family, told, per_cluster[family], "cluster")


_TOLD = {
    "fed_cluster_gpu_utilization_ratio": "Mean share of time in which GPUs computed.",
    "fed_cluster_gpu_memory_used_bytes": "Memory in use, of the GPUs that tell it.",
    "fed_cluster_gpu_memory_bytes": "Memory of the GPUs that tell their use; of all if none does.",
    "fed_cluster_gpu_power_watts": "Power that GPUs draw.",
    "fed_cluster_largest_free_block": "The most units that one workload on one node could get.",
    "fed_cluster_waiting_units": "Units that workloads of the cluster wait for.",
    "fed_cluster_capacity_age_seconds": "Age of what is known of the devices.",
    "fed_cluster_capacity_stale": "1 = nothing is added there: what is known is too old.",
}


def _units(capacity: Capacity) -> dict[tuple[str, str], int]:
    """Return the units by resource and state."""
    totals: Counter[str] = Counter()
    for pool in capacity.pools:
        totals[pool.resource] += pool.total
    named = {resource for resource, _ in totals.most_common(MAX_RESOURCES)}
    counts: dict[tuple[str, str], int] = {}
    for pool in capacity.pools:
        resource = pool.resource if pool.resource in named else "other"
        for state, count in (
            ("total", pool.total),
            ("allocatable", pool.allocatable),
            ("free", pool.free),
            ("ours", pool.ours),
        ):
            key = (resource, state)
            counts[key] = counts.get(key, 0) + count
    return counts
