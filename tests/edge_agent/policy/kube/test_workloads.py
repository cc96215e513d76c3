"""Names, labels and pods of engines, field by field."""

import re

import kubernetes_validate
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.policy.kube.workloads import (
    Placing,
    container_resources,
    is_ours,
    metadata,
    object_name,
    our_labels,
    pod_spec,
    revision,
    selector,
    told_placing,
    told_version,
)
from federation.contract.capacity import Resources
from tests.edge_agent.policy.kube.engines import ON_H100, SHAPE, WORKLOAD, workload

# RFC 1035 labels, as Services want them.
LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def test_names_are_readable() -> None:
    assert re.fullmatch(r"m-llama-3-1-v7-[0-9a-f]{6}", object_name("Llama_3.1", 7))


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True), st.integers(1, 10**9))
def test_every_model_gets_a_name_that_services_may_have(model: str, version: int) -> None:
    name = object_name(model, version)
    assert LABEL.fullmatch(name)
    assert len(name) <= 40


def test_names_that_look_alike_are_different() -> None:
    names = [("A.b", 1), ("a-b", 1), ("a_b", 1), ("a-b", 11), ("x" * 63, 1), ("x" * 62, 1)]
    assert len({object_name(*each) for each in names}) == len(names)


def test_labels_find_our_objects_and_no_others() -> None:
    labels = our_labels(SHAPE, "m-x")
    assert labels == {
        "federation.inference/managed-by": "edge-agent",
        "federation.inference/cluster": "eu",
        "federation.inference/workload": "m-x",
    }
    assert selector("eu", "m-x") == ",".join(f"{k}={v}" for k, v in labels.items())
    assert "workload" not in selector("eu")
    assert is_ours({"metadata": {"labels": labels}}, "eu")
    assert not is_ours({"metadata": {"labels": labels}}, "us")
    assert not is_ours({"metadata": {}}, "eu")


def test_an_object_tells_what_it_serves_and_where_it_was_placed() -> None:
    obj = {"metadata": metadata(WORKLOAD, SHAPE, ON_H100)}
    assert told_version(obj) == ("Llama_3.1", 7, "ab" * 32, "text")
    assert told_placing(obj, WORKLOAD) == ON_H100
    assert told_placing(obj, workload(replicas=9)) == ON_H100
    assert told_placing(obj, workload(resources=Resources(gpus=2))) is None
    assert told_version({"metadata": {"annotations": {"federation.inference/model": "x"}}}) is None
    obj["metadata"]["annotations"]["federation.inference/placing"] = "{"
    assert told_placing(obj, WORKLOAD) is None


def test_a_pod_satisfies_the_restricted_standard() -> None:
    spec = pod_spec(WORKLOAD, SHAPE, ON_H100, {"name": "engine"})
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    assert {"hostPath", "nfs"}.isdisjoint(kind for volume in spec["volumes"] for kind in volume)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
    kubernetes_validate.validate(pod, "1.36", strict=True)


def test_a_pod_reads_the_folder_of_its_version_alone() -> None:
    spec = pod_spec(WORKLOAD, SHAPE, Placing(), {"name": "engine"})
    (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "models")
    assert mount == {
        "name": "models",
        "mountPath": "/models",
        "subPath": "versions/m-llama-ab",
        "readOnly": True,
    }
    (volume,) = (v for v in spec["volumes"] if v["name"] == "models")
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}


def test_a_pod_bears_taints_and_goes_where_it_was_placed() -> None:
    spec = pod_spec(WORKLOAD, SHAPE, ON_H100, {"name": "engine"})
    assert spec["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "ml"},
    ]
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == [
        {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["H100", "H200"]}
    ]
    assert "affinity" not in pod_spec(WORKLOAD, SHAPE, Placing(), {"name": "engine"})


def test_a_replica_asks_for_its_units_with_equal_limits() -> None:
    assert container_resources(SHAPE, ON_H100) == {
        "requests": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"},
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"},
    }
    assert container_resources(SHAPE, Placing())["limits"] == {"memory": "8Gi"}


def test_a_revision_depends_on_the_content_alone() -> None:
    assert revision({"a": 1, "b": 2}) == revision({"b": 2, "a": 1}) != revision({"a": 1})
