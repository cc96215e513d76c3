"""What a node offers, and what keeps our workloads off it.

Input: a node as plain JSON, our tolerations. Output: NodeFacts. Allocatable holds healthy devices
only; capacity all that the device plugin knows of.
https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_agent.policy.kube.fields import Json, at, items, mapping, text, told, whole
from edge_agent.policy.kube.labels import KEPT
from edge_agent.policy.kube.names import is_measure, unit_of
from edge_agent.policy.kube.tolerations import Toleration, keeping_away, written

_BY_KEY = {
    "node.kubernetes.io/unschedulable": "cordoned",
    "node.kubernetes.io/not-ready": "not ready",
    "node.kubernetes.io/unreachable": "unreachable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node as far as devices go. `offers`: (resource, capacity, allocatable)."""

    name: str
    blocked: str = ""  # why it takes no new workload of ours, in words
    offers: tuple[tuple[str, int, int], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    measures: tuple[str, ...] = ()  # resources that measure parts of GPUs


def node_facts(node: Json, tolerations: Sequence[Toleration]) -> NodeFacts:
    """Return the facts of a node."""
    capacity = mapping(node, "status", "capacity")
    allocatable = mapping(node, "status", "allocatable")
    names = sorted({name for name in (*capacity, *allocatable) if "/" in name})
    offers = tuple(
        (name, whole(capacity.get(name)), whole(allocatable.get(name)))
        for name in names
        if unit_of(name) is not None
    )
    labels = mapping(node, "metadata", "labels")
    return NodeFacts(
        name=text(node, "metadata", "name"),
        blocked=_blocked(node, tolerations),
        offers=offers,
        labels={k: v for k, v in labels.items() if k.startswith(KEPT) and isinstance(v, str)},
        measures=tuple(n for n in names if is_measure(n) and whole(capacity.get(n))),
    )


def _blocked(node: Json, tolerations: Sequence[Toleration]) -> str:
    """Return why the scheduler, or its operator, keeps new workloads off a node; "" if nothing.

    Whoever cordons a node wants it left alone: no toleration reaches it.
    """
    reasons = ["cordoned"] if at(node, "spec", "unschedulable") is True else []
    status = next(
        (
            text(condition, "status")
            for condition in items(node, "status", "conditions")
            if condition.get("type") == "Ready"
        ),
        "",
    )
    if status != "True":
        reasons.append("unreachable" if status == "Unknown" else "not ready")
    reasons += [
        _BY_KEY.get(text(taint, "key"), f"tainted {written(taint)}")
        for taint in keeping_away(items(node, "spec", "taints"), tolerations)
    ]
    return told(reasons)
