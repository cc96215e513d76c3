"""Workloads for the tests of engines' manifests and rollouts."""

from dataclasses import replace
from typing import Any

from edge_agent.policy.kube.tolerations import toleration
from edge_agent.policy.kube.workloads import EngineShape, Placing, Workload
from federation.contract.capacity import Resources

SHAPE = EngineShape(
    namespace="serving",
    cluster="eu",
    image="example.com/engine:2.60.0-py312",
    claim="models",
    path="versions",
    cpu="2",
    memory="8Gi",
    tolerations=(toleration("nvidia.com/gpu:NoSchedule"), toleration("team=ml")),
)
ON_H100 = Placing(
    resource="nvidia.com/gpu", units=1, key="nvidia.com/gpu.product", values=("H100", "H200")
)
WORKLOAD = Workload(
    model="Llama_3.1",
    version=7,
    digest="ab" * 32,
    protocol="text",
    folder="m-llama-ab",
    replicas=2,
    resources=Resources(gpus=1, memory_mib=40_000),
)


def workload(**changes: Any) -> Workload:
    return replace(WORKLOAD, **changes)
