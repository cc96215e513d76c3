"""Random clusters for property tests: nodes, pods, slices, claims and classes as plain JSON.

Input: one drawn number for each object, so that Hypothesis can drop and repeat objects cheaply.
Output: objects; also such as the API server would hardly give: pods on unknown nodes, claims on
unknown devices.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

RESOURCES = ("nvidia.com/gpu", "amd.com/gpu", "nvidia.com/mig-1g.5gb", "example.com/gpu")
NODES = ("a", "b", "c")
PODS = ("p1", "p2", "p3", "p4", "p5", "p6")
TAINTS = (
    {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
    {"key": "dedicated", "value": "training", "effect": "NoSchedule"},
    {"key": "dedicated", "value": "inference", "effect": "NoExecute"},
    {"key": "old", "value": "yes", "effect": "PreferNoSchedule"},
)
LABELS: tuple[dict[str, str], ...] = (
    {},
    {
        "nvidia.com/gpu.product": "NVIDIA-L4",
        "nvidia.com/gpu.count": "2",
        "nvidia.com/gpu.replicas": "4",
        "nvidia.com/gpu.memory": "23034",
    },
    {"amd.com/compute-memory-partition": "cpx_nps4", "amd.com/gpu.vram": "192G"},
)


def node(dice: Random, name: str = "") -> Json:
    offers = {r: dice.randint(0, 8) for r in dice.sample(RESOURCES, dice.randint(0, 2))}
    left = {r: dice.randint(0, n) if dice.random() < 0.3 else n for r, n in offers.items()}
    return {
        "kind": "Node",
        "metadata": {"name": name or dice.choice(NODES), "labels": dice.choice(LABELS)},
        "spec": {
            "unschedulable": dice.random() < 0.15,
            "taints": dice.sample(TAINTS, dice.choice((0, 0, 1, 2))),
        },
        "status": {
            "capacity": {r: str(n) for r, n in offers.items()},
            "allocatable": {r: str(n) for r, n in left.items()},
            "conditions": [
                {"type": "Ready", "status": "True" if dice.random() < 0.85 else "False"}
            ],
        },
    }


def _container(dice: Random, *, first: bool = False) -> Json:
    asked = {r: str(dice.randint(0, 3)) for r in dice.sample(RESOURCES, dice.randint(0, 2))}
    always = {"restartPolicy": "Always"} if first and dice.random() < 0.5 else {}
    return {"resources": {"requests": asked}, **always}


def pod(dice: Random, name: str = "") -> Json:
    where = dice.choice((*NODES, *NODES, "gone", ""))
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    ours = {"federation.inference/managed-by": "edge-agent"}
    claims = dice.sample(("c1", "c2"), dice.randint(0, 1))
    return {
        "kind": "Pod",
        "metadata": {
            "namespace": "ml",
            "name": name or dice.choice(PODS),
            "labels": ours if dice.random() < 0.4 else {},
        },
        "spec": {
            **({"nodeName": where} if where else {}),
            "containers": [_container(dice) for _ in range(dice.randint(1, 2))],
            "initContainers": [_container(dice, first=True) for _ in range(dice.randint(0, 3))],
            "resourceClaims": [{"name": c, "resourceClaimName": c} for c in claims],
        },
        "status": {
            "phase": dice.choice(("Running", "Running", "Pending", "Succeeded")),
            "conditions": [waits] if not where and dice.random() < 0.7 else [],
        },
    }


def resource_slice(dice: Random) -> Json:
    """A slice of one of two pools; whole lists are likely, not sure."""
    name, where = dice.choice(("s1", "s2")), dice.choice(("a", "b"))
    sick = [{"key": "sick", "effect": "NoExecute"}]
    return {
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {
            "driver": "gpu.nvidia.com",
            "nodeName": where,
            "pool": {
                "name": where,
                "generation": dice.randint(1, 2),
                "resourceSliceCount": dice.choice((1, 1, 2)),
            },
            "devices": [
                {
                    "name": f"gpu-{n}",
                    "attributes": {
                        "type": {"string": "gpu"},
                        "uuid": {"string": f"GPU-{name}-{n}"},
                    },
                    "taints": sick if dice.random() < 0.2 else [],
                }
                for n in range(dice.randint(0, 4))
            ],
        },
    }


def claim(dice: Random) -> Json:
    results = [
        {
            "driver": "gpu.nvidia.com",
            "pool": dice.choice(("a", "b")),
            "device": f"gpu-{dice.randint(0, 4)}",
        }
        for _ in range(dice.randint(0, 2))
    ]
    users = dice.sample(PODS, dice.randint(0, 2))
    wanted = {"exactly": {"deviceClassName": "gpu.nvidia.com", "count": 2}}
    return {
        "kind": "ResourceClaim",
        "metadata": {"namespace": "ml", "name": dice.choice(("c1", "c2"))},
        "spec": {"devices": {"requests": [wanted]}},
        "status": {
            **({"allocation": {"devices": {"results": results}}} if results else {}),
            "reservedFor": [{"resource": "pods", "name": user} for user in users],
        },
    }


def device_class(dice: Random) -> Json:
    return {
        "kind": "DeviceClass",
        "metadata": {"name": "gpus"},
        "spec": {
            "extendedResourceName": dice.choice(("", "example.com/xgpu")),
            "selectors": [{"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}],
        },
    }


_MAKERS: tuple[Callable[[Random], Json], ...] = (
    node,
    node,
    pod,
    pod,
    pod,
    resource_slice,
    claim,
    device_class,
)


def _anything(number: int) -> Json:
    dice = Random(number)
    return dice.choice(_MAKERS)(dice)


numbers = st.integers(0, 1 << 40)
anything = numbers.map(_anything)


def cluster(number: int) -> tuple[list[Json], list[Json]]:
    """Return nodes and pods of a random cluster."""
    dice = Random(number)
    nodes = [node(dice, name) for name in NODES if dice.random() < 0.9]
    return nodes, [pod(dice, name) for name in PODS if dice.random() < 0.8]
