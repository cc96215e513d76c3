"""Which resource a replica asks for, and which nodes may hold it.

Input: what a replica needs, the cluster's capacity (free where pods could be seen), its nodes as
plain JSON. Output: a Placing, or why there is none, in words; and how many more replicas would fit.
The scheduler does the rest: it is told labels, not nodes, wherever labels tell nodes apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge_agent.policy.kube.fields import mapping, text
from edge_agent.policy.kube.names import unit_of
from edge_agent.policy.kube.workloads import Placing
from federation.contract.capacity import Pool, Resources, Sharing
from federation.contract.matching import misfit, nearest_misfit

_HOST = "kubernetes.io/hostname"
_PRODUCTS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "gpu.intel.com/product")


class Unfit(Exception):
    """No node has what a replica needs; the argument says what is missing."""


def place(needs: Resources, pools: Sequence[Pool], nodes: Iterable[Mapping[str, Any]]) -> Placing:
    """Return what a replica asks for and where it may run; raises Unfit.

    A share of a GPU cannot be asked of Kubernetes: such a replica gets a unit of its own. Of
    several fitting resources the least wasteful counts: the smallest memory if the needs name one,
    else whole GPUs; then the one of which most is free.
    """
    if not needs.gpus:
        return Placing()
    fitting = [pool for pool in pools if _fits(pool, needs)]
    if not fitting:
        raise Unfit(_missing(needs, pools))
    resource = min(
        {pool.resource for pool in fitting}, key=lambda name: _waste(name, fitting, needs)
    )
    good = {pool.node for pool in fitting if pool.resource == resource}
    offering = {pool.node for pool in pools if pool.resource == resource}
    key, values = ("", ()) if good == offering else _apart(resource, good, offering, nodes)
    return Placing(resource=resource, units=needs.gpus, key=key, values=values)


def room(
    placing: Placing, pools: Iterable[Pool], nodes: Iterable[Mapping[str, Any]]
) -> tuple[int, int]:
    """Return how many more replicas, and units, are free where these may run."""
    labels = {text(node, "metadata", "name"): mapping(node, "metadata", "labels") for node in nodes}
    free = [
        pool.free
        for pool in pools
        if pool.resource == placing.resource
        and (not placing.key or text(labels.get(pool.node, {}), placing.key) in placing.values)
    ]
    return (sum(units // placing.units for units in free) if placing.units else 0), sum(free)


def _fits(pool: Pool, needs: Resources) -> bool:
    return pool.allocatable >= needs.gpus and misfit(pool, needs) is None


def _missing(needs: Resources, pools: Sequence[Pool]) -> str:
    alike = [pool for pool in pools if misfit(pool, needs) is None]
    if alike:
        most = max(pool.allocatable for pool in alike)
        return f"a replica needs {needs.gpus} GPUs on one node, the most that a node has is {most}"
    words = nearest_misfit(pools, needs)
    return f"a replica {words}" if words else f"a replica needs {needs.gpus} GPUs, there are none"


def _waste(name: str, fitting: Sequence[Pool], needs: Resources) -> tuple[Any, ...]:
    mine = [pool for pool in fitting if pool.resource == name]
    memory_mib = min(pool.memory_mib for pool in mine) if needs.memory_mib else 0
    cut = 0 if needs.memory_mib else int(all(pool.sharing is not Sharing.NONE for pool in mine))
    return (cut, memory_mib, -sum(pool.free for pool in mine), name)


def _apart(
    resource: str, good: set[str], offering: set[str], nodes: Iterable[Mapping[str, Any]]
) -> tuple[str, tuple[str, ...]]:
    """Return the label whose values tell the good nodes from the others that offer the resource."""
    unit = unit_of(resource)
    keys = (f"{unit.label}.product", *_PRODUCTS) if unit else _PRODUCTS
    labels = {text(node, "metadata", "name"): mapping(node, "metadata", "labels") for node in nodes}
    for key in (*dict.fromkeys(keys), f"{unit.label}.memory" if unit else "", _HOST):
        mine = {text(labels.get(name, {}), key) for name in good}
        others = {text(labels.get(name, {}), key) for name in offering - good}
        if "" not in mine and not mine & others:
            return key, tuple(sorted(mine))
    return _HOST, tuple(sorted(good))
