from decimal import Decimal
from typing import Any

import pytest

from edge_agent.policy.kube.slices import (
    ANY_NODE,
    Claim,
    DeviceClass,
    Hold,
    read_claim,
    read_class,
    read_slice,
)


def _slice(*devices: dict[str, Any], **spec: Any) -> dict[str, Any]:
    pool = {"name": "p", "generation": 2, "resourceSliceCount": 1}
    known = {"driver": "gpu.nvidia.com", "nodeName": "n1", "pool": pool, "devices": list(devices)}
    return {"metadata": {"name": "s"}, "spec": known | spec}


def test_a_slice() -> None:
    found = read_slice(_slice({"name": "gpu-0"}))
    assert found is not None
    assert (found.key, found.generation, found.slices) == (("gpu.nvidia.com", "p"), 2, 1)
    assert found.nodes == {"n1"}
    assert [(d.name, d.node, d.vendor, d.parts) for d in found.devices] == [
        ("gpu-0", "n1", "nvidia", 1)
    ]


def test_a_slice_of_other_things_is_none() -> None:
    assert read_slice(_slice({"name": "eth0"}, driver="dra.net")) is None


def test_devices_that_say_that_they_are_gpus_are() -> None:
    gpu = {"name": "x", "attributes": {"type": {"string": "gpu"}}}
    assert read_slice(_slice(gpu, driver="dra.example.com")) is not None


def test_counters_lie_in_slices_of_their_own() -> None:
    counters = [{"name": "gpu-0-counter-set", "counters": {"memory": {"value": "80Gi"}}}]
    found = read_slice(_slice(sharedCounters=counters))
    assert found is not None
    assert found.counters == {("gpu-0-counter-set", "memory"): Decimal(80 << 30)}


@pytest.mark.parametrize(
    ("where", "node"),
    [
        ({"nodeName": "a"}, "a"),
        ({"nodeName": None, "allNodes": True}, ANY_NODE),
        (
            {
                "nodeName": None,
                "nodeSelector": {
                    "nodeSelectorTerms": [
                        {
                            "matchFields": [
                                {"key": "metadata.name", "operator": "In", "values": ["a"]}
                            ]
                        }
                    ]
                },
            },
            "a",
        ),
        (
            {
                "nodeName": None,
                "nodeSelector": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["1"]}]}
                    ]
                },
            },
            ANY_NODE,
        ),
    ],
)
def test_where_devices_can_be_reached(where: dict[str, Any], node: str) -> None:
    found = read_slice(_slice({"name": "gpu-0"}, **where))
    assert found is not None
    assert found.nodes == {node}


def test_shares_of_a_device_follow_from_what_each_takes() -> None:
    device = {
        "name": "d",
        "allowMultipleAllocations": True,
        "capacity": {
            "memory": {"value": "80Gi", "requestPolicy": {"default": "20Gi"}},
            "partitions": {"value": "8", "requestPolicy": {"default": "1"}},
            "decoders": {"value": "3"},
        },
    }
    found = read_slice(_slice(device))
    assert found is not None
    assert found.devices[0].parts == 4
    alone = read_slice(_slice({**device, "allowMultipleAllocations": False}))
    assert alone is not None
    assert alone.devices[0].parts == 1


def test_a_claim_that_is_served() -> None:
    result = {"driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-0", "request": "r"}
    claim = {
        "metadata": {"namespace": "ml", "name": "c"},
        "spec": {"devices": {"requests": [{"exactly": {"deviceClassName": "gpu.nvidia.com"}}]}},
        "status": {
            "allocation": {
                "devices": {
                    "results": [
                        result,
                        {**result, "device": "gpu-1", "adminAccess": True},
                        {**result, "device": "gpu-2", "consumedCapacity": {"memory": "1Gi"}},
                    ]
                }
            },
            "reservedFor": [
                {"resource": "pods", "name": "p"},
                {"resource": "podgroups", "name": "g"},
            ],
        },
    }
    assert read_claim(claim) == Claim(
        holds=(
            Hold(driver="gpu.nvidia.com", pool="n1", device="gpu-0"),
            Hold(
                driver="gpu.nvidia.com",
                pool="n1",
                device="gpu-2",
                consumed=(("memory", Decimal(1 << 30)),),
            ),
        ),
        pods=("p",),
    )


@pytest.mark.parametrize(
    ("request_", "wants"),
    [
        ({"exactly": {"deviceClassName": "a", "count": 2}}, (("a", 2),)),
        ({"exactly": {"deviceClassName": "a"}}, (("a", 1),)),
        ({"firstAvailable": [{"deviceClassName": "a", "count": 4}]}, (("a", 4),)),
        ({"deviceClassName": "a", "count": 3}, (("a", 3),)),  # v1beta1
        ({"exactly": {"deviceClassName": "a", "adminAccess": True}}, ()),
    ],
)
def test_what_a_claim_waits_for(request_: dict[str, Any], wants: Any) -> None:
    assert read_claim({"spec": {"devices": {"requests": [request_]}}}).wants == wants


@pytest.mark.parametrize(
    ("expressions", "driver", "kind", "gpu"),
    [
        (["device.driver == 'gpu.nvidia.com'"], "gpu.nvidia.com", "", True),
        (
            ['device.driver == "x.com" && device.attributes["x.com"].type == "gpu"'],
            "x.com",
            "gpu",
            False,
        ),
        (
            ["device.driver == 'gpu.a.com'", "device.attributes['gpu.a.com'].type == 'mig'"],
            "gpu.a.com",
            "mig",
            True,
        ),
        (["device.driver == 'gpu.a.com' || true"], "", "", True),
        (["device.driver == 'gpu.a.com' && device.attributes['b'].x == 1"], "", "", True),
        ([], "", "", False),
    ],
)
def test_what_a_class_selects(expressions: list[str], driver: str, kind: str, gpu: bool) -> None:
    spec = {"selectors": [{"cel": {"expression": e}} for e in expressions]}
    found = read_class({"metadata": {"name": "large"}, "spec": spec})
    assert found == DeviceClass(name="large", driver=driver, kind=kind, gpu=gpu)
