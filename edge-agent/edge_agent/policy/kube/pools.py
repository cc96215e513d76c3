"""Pools of the devices that device plugins offer on a node.

Input: the facts of a node, what its pods hold. Output: its pools. Free = allocatable − requests of
bound pods that have not ended, as the scheduler counts (NodeResourcesFit).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from edge_agent.policy.kube.fields import told
from edge_agent.policy.kube.labels import Description, describe, number
from edge_agent.policy.kube.names import NVIDIA, Unit, unit_of
from edge_agent.policy.kube.nodes import NodeFacts
from edge_agent.policy.kube.partitions import mig_cards
from edge_agent.policy.kube.pods import PodUse
from federation.contract.capacity import Pool

_WHOLE_NVIDIA = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Held:
    """Units of a resource that pods hold: all, and those of this federation."""

    used: int = 0
    ours: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    unit: Unit
    said: Description
    total: int
    allocatable: int
    held: Held


def held_by(pods: Iterable[PodUse]) -> dict[str, Held]:
    """Return what the pods of a node hold of each GPU resource."""
    sums: dict[str, Held] = {}
    for pod in pods:
        for name, n in pod.requests:
            if unit_of(name) is not None:
                old = sums.get(name, Held())
                sums[name] = Held(old.used + n, old.ours + (n if pod.ours else 0))
    return sums


def plugin_pools(
    node: NodeFacts, held: Mapping[str, Held], elsewhere: Collection[str] = ()
) -> tuple[Pool, ...]:
    """Return the pools of a node.

    `elsewhere` are the vendors whose devices on this node a driver of dynamic resource allocation
    hands out: their labels promise nothing to device plugins.
    """
    rows = [row for row in _rows(node, held, elsewhere) if row.total or row.said.broken]
    physical = _physical(node, rows)
    return tuple(_pool(node, row, n) for row, n in zip(rows, physical, strict=True))


def _rows(node: NodeFacts, held: Mapping[str, Held], elsewhere: Collection[str]) -> Iterable[_Row]:
    offers = {name: (capacity, allocatable) for name, capacity, allocatable in node.offers}
    names = {*offers, *held}
    if f"{_WHOLE_NVIDIA}.product" in node.labels and not names & {
        _WHOLE_NVIDIA,
        f"{_WHOLE_NVIDIA}.shared",
    }:
        names.add(_WHOLE_NVIDIA)
    units = {name: unit for name in sorted(names) if (unit := unit_of(name)) is not None}
    renamed = {units[name].label for name, (capacity, _) in offers.items() if capacity}
    for name, unit in units.items():
        capacity, allocatable = offers.get(name, (0, 0))
        mine = held.get(name, Held())
        said = describe(unit, node.labels, max(capacity, allocatable))
        promised = said.promised
        if not capacity and unit.label in renamed:
            promised = 0
        if unit.vendor in elsewhere:
            if not capacity and not allocatable:
                continue
            promised = 0
        total = max(capacity, allocatable, mine.used, promised)
        yield _Row(unit=unit, said=said, total=total, allocatable=allocatable, held=mine)


def _physical(node: NodeFacts, rows: list[_Row]) -> list[int]:
    """Return how many devices are behind each row; one behind several counts at the first."""
    numbers: list[int] = []
    cut: list[int] = []
    for index, row in enumerate(rows):
        said = row.said
        if row.unit.vendor == NVIDIA and said.profile:
            cut.append(index)
            numbers.append(0)
        else:
            numbers.append(ceil(row.total / (said.replicas * said.parts)))
    if cut:
        whole = sum(numbers)
        counted = number(node.labels, f"{_WHOLE_NVIDIA}.count") - whole
        mixed = node.labels.get("nvidia.com/mig.strategy") == "mixed"
        if not mixed or counted <= 0:
            counted = _least_cards(node, [rows[index] for index in cut], mixed=mixed)
        numbers[cut[0]] = counted
    return numbers


def _least_cards(node: NodeFacts, rows: list[_Row], *, mixed: bool) -> int:
    memory_mib = number(node.labels, f"{_WHOLE_NVIDIA}.memory") if mixed else 0
    instances = [(row.said.profile, ceil(row.total / row.said.replicas)) for row in rows]
    return mig_cards(instances, rows[0].said.product, memory_mib)


def _pool(node: NodeFacts, row: _Row, physical: int) -> Pool:
    left = max(0, row.allocatable - row.held.used)
    free = 0 if node.blocked else left
    said = row.said
    return Pool(
        node=node.name,
        resource=row.unit.resource,
        vendor=row.unit.vendor,
        product=said.product,
        memory_mib=said.memory_mib,
        architecture=said.architecture,
        compute_capability=said.compute_capability,
        profile=said.profile,
        sharing=said.sharing,
        physical=physical,
        total=row.total,
        allocatable=row.allocatable,
        free=free,
        ours=min(row.held.ours, row.allocatable - free),
        reason=told((node.blocked, row.said.broken, _lost(row))),
    )


def _lost(row: _Row) -> str:
    """Return how many of the devices are gone, in words."""
    lost, total, replicas = row.total - row.allocatable, row.total, row.said.replicas
    if lost <= 0:
        return ""
    what = "partitions" if row.said.profile else "devices"
    if replicas > 1:
        if lost % replicas == 0 and total % replicas == 0:
            lost, total = lost // replicas, total // replicas
        else:
            what = "units"
    return f"{lost} of {total} {what} {'is' if lost == 1 else 'are'} gone"
