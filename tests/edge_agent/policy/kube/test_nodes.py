from typing import Any

import pytest

from edge_agent.policy.kube.nodes import NodeFacts, node_facts
from edge_agent.policy.kube.tolerations import toleration

READY = [{"type": "Ready", "status": "True"}]


def _node(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "n1"}, "spec": spec, "status": {"conditions": READY}}


def test_a_node_without_devices() -> None:
    assert node_facts(_node(), ()) == NodeFacts(name="n1")


def test_what_is_offered_and_what_describes_it() -> None:
    node = _node()
    node["metadata"]["labels"] = {
        "nvidia.com/gpu.product": "L4",
        "kubernetes.io/hostname": "n1",
        "amd.com/odd": 7,
    }
    node["status"] |= {
        "capacity": {"cpu": "8", "nvidia.com/gpu": "8", "amd.com/gpu": "1", "a.com/gpu-mem": "4"},
        "allocatable": {"nvidia.com/gpu": "6", "example.com/gpu": "2"},
    }
    assert node_facts(node, ()) == NodeFacts(
        name="n1",
        offers=(("amd.com/gpu", 1, 0), ("example.com/gpu", 0, 2), ("nvidia.com/gpu", 8, 6)),
        labels={"nvidia.com/gpu.product": "L4"},
        measures=("a.com/gpu-mem",),
    )


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, ""),
        ({"unschedulable": False}, ""),
        ({"unschedulable": True}, "cordoned"),
        ({"taints": [{"key": "a", "value": "b", "effect": "NoExecute"}]}, "tainted a=b:NoExecute"),
        ({"taints": [{"key": "borne", "effect": "NoSchedule"}]}, ""),
        ({"taints": [{"key": "soft", "effect": "PreferNoSchedule"}]}, ""),
        (
            {"taints": [{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]},
            "tainted node.kubernetes.io/disk-pressure:NoSchedule",
        ),
    ],
)
def test_what_keeps_workloads_away(spec: dict[str, Any], reason: str) -> None:
    assert node_facts(_node(**spec), [toleration("borne")]).blocked == reason


@pytest.mark.parametrize(
    ("status", "reason"), [("True", ""), ("False", "not ready"), ("Unknown", "unreachable")]
)
def test_what_the_kubelet_says(status: str, reason: str) -> None:
    node = _node()
    node["status"]["conditions"] = [
        {"type": "DiskPressure", "status": "False"},
        {"type": "Ready", "status": status},
    ]
    assert node_facts(node, [toleration("*")]).blocked == reason
