"""Which resource and which nodes: by what nodes are, told in labels."""

from typing import Any

import pytest

from edge_agent.policy.kube.fitting import Unfit, place, room
from edge_agent.policy.kube.view import KubeView
from edge_agent.policy.kube.workloads import Placing
from federation.contract.capacity import Pool, Resources

Obj = dict[str, Any]


def gpu_node(name: str, product: str, memory: int, n: int) -> Obj:
    labels = {
        "kubernetes.io/hostname": name,
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(memory),
    }
    have = {"nvidia.com/gpu": str(n)}
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": have, "allocatable": have, "conditions": ready},
    }


H100 = gpu_node("h", "NVIDIA-H100-80GB-HBM3", 81_559, 8)
A10 = gpu_node("a", "NVIDIA-A10", 23_028, 4)
OLD_A10 = gpu_node("b", "NVIDIA-A10", 23_028, 1)


def pools(*nodes: Obj) -> tuple[Pool, ...]:
    view = KubeView()
    view.replace("Node", nodes)
    return view.capacity().pools


def placed(needs: Resources, *nodes: Obj) -> Placing:
    return place(needs, pools(*nodes), nodes)


def test_without_gpus_anywhere_is_fine() -> None:
    assert placed(Resources()) == Placing()


def test_where_all_nodes_fit_none_is_named() -> None:
    assert placed(Resources(gpus=1), H100, A10) == Placing(resource="nvidia.com/gpu", units=1)


@pytest.mark.parametrize(
    "needs",
    [
        Resources(gpus=1, memory_mib=40_000),
        Resources(gpus=1, products=("*H100*",)),
        Resources(gpus=8),
    ],
)
def test_nodes_that_fit_are_told_by_their_product(needs: Resources) -> None:
    found = placed(needs, H100, A10, OLD_A10)
    assert (found.key, found.values) == ("nvidia.com/gpu.product", ("NVIDIA-H100-80GB-HBM3",))
    assert found.units == needs.gpus


def test_equal_products_are_told_apart_by_name() -> None:
    found = placed(Resources(gpus=4), A10, OLD_A10)
    assert (found.key, found.values) == ("kubernetes.io/hostname", ("a",))


def test_of_several_resources_the_smallest_that_suffices() -> None:
    cut = gpu_node("m", "NVIDIA-H100-80GB-HBM3", 81_559, 0)
    for which in ("capacity", "allocatable"):
        cut["status"][which] = {"nvidia.com/mig-1g.10gb": "7"}
    cut["metadata"]["labels"] |= {
        "nvidia.com/mig.strategy": "mixed",
        "nvidia.com/mig-1g.10gb.memory": "9728",
        "nvidia.com/mig-1g.10gb.count": "7",
    }
    small = placed(Resources(gpus=1, memory_mib=8_000), H100, cut)
    assert small.resource == "nvidia.com/mig-1g.10gb"
    assert placed(Resources(gpus=1, profile="1g.*"), H100, cut) == small
    assert placed(Resources(gpus=1), H100, cut).resource == "nvidia.com/gpu"
    assert placed(Resources(gpus=1, memory_mib=40_000), H100, cut).resource == "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Resources(gpus=9), "needs 9 GPUs on one node, the most that a node has is 8"),
        (Resources(gpus=1, vendor="amd"), "needs GPUs of amd"),
        (Resources(gpus=1, memory_mib=100_000), "needs 97.7 GiB, largest block is 79.6 GiB on h"),
    ],
)
def test_what_no_node_has_is_told(needs: Resources, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        placed(needs, H100, A10)


def test_without_any_gpu_that_is_told() -> None:
    with pytest.raises(Unfit, match="needs 2 GPUs, there are none"):
        placed(Resources(gpus=2))


def test_room_counts_replicas_node_by_node_where_they_may_run() -> None:
    nodes = (H100, A10, OLD_A10)
    gpus = [Placing(resource="nvidia.com/gpu", units=n) for n in (1, 3)]
    assert [room(each, pools(*nodes), nodes) for each in gpus] == [(13, 13), (3, 13)]
    only = placed(Resources(gpus=1, memory_mib=40_000), *nodes)
    assert room(only, pools(*nodes), nodes) == (8, 8)
    assert room(Placing(resource="amd.com/gpu", units=1), pools(*nodes), nodes) == (0, 0)
    assert room(Placing(), pools(*nodes), nodes) == (0, 0)
