"""A small model of the scheduler, written from its documentation alone, as an oracle for tests.

Input: nodes and pods as plain JSON, tolerations of a workload as manifests write them. Output:
whether a pod that asks for k units of a resource would be bound, and to which nodes.

Only what matters for extended resources: the filters NodeUnschedulable, TaintToleration and
NodeResourcesFit (https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins); that
a node which is not ready is tainted so by the node controller; and that a pod holds the most that
its containers ever hold at a time, worked out here by letting its life run.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]


def most_at_a_time(spec: Json, resource: str) -> int:
    """Return the most units that run together, over the life of a pod."""

    def asks(container: Json) -> int:
        return int(container.get("resources", {}).get("requests", {}).get(resource, 0))

    running: list[int] = []  # what stays until the end
    moments = [0]
    for container in spec.get("initContainers", []):
        moments.append(sum(running) + asks(container))
        if container.get("restartPolicy") == "Always":
            running.append(asks(container))
    moments.append(sum(running) + sum(asks(c) for c in spec.get("containers", [])))
    return max(moments)


def tolerated(taint: Json, tolerations: Iterable[Json]) -> bool:
    """Matches if keys and effects are equal, and the operator is Exists, or the values are equal;
    an empty key with Exists matches all, an empty effect matches all effects."""
    for one in tolerations:
        if one.get("effect") and one["effect"] != taint["effect"]:
            continue
        if one.get("operator") == "Exists":
            if not one.get("key") or one["key"] == taint["key"]:
                return True
        elif one.get("key") == taint["key"] and one.get("value", "") == taint.get("value", ""):
            return True
    return False


def taints_of(node: Json) -> list[Json]:
    """Return its taints, with those that the node controller would have added by now."""
    taints = list(node.get("spec", {}).get("taints", []))
    conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", [])}
    if conditions.get("Ready") != "True":
        taints.append({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"})
    if node.get("spec", {}).get("unschedulable"):
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    return taints


def nodes_for(
    nodes: Sequence[Json],
    pods: Sequence[Json],
    resource: str,
    wanted: int,
    tolerations: Sequence[Json],
) -> list[str]:
    """Return the names of the nodes that a pod of `wanted` units could be bound to."""
    fitting = []
    for node in nodes:
        name = node["metadata"]["name"]
        hard = [t for t in taints_of(node) if t["effect"] in ("NoSchedule", "NoExecute")]
        if not all(tolerated(taint, tolerations) for taint in hard):
            continue
        held = sum(
            most_at_a_time(pod["spec"], resource)
            for pod in pods
            if pod["spec"].get("nodeName") == name
            and pod["status"].get("phase") not in ("Succeeded", "Failed")
        )
        if wanted <= int(node["status"].get("allocatable", {}).get(resource, 0)) - held:
            fitting.append(name)
    return fitting
