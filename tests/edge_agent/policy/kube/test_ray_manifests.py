"""What a RayService is made of, and what makes a second cluster."""

import json
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest

from edge_agent.policy.kube.ray_manifests import (
    needs_second_cluster,
    ray_service,
    serve_host,
    with_surge,
)
from edge_agent.policy.kube.workloads import Placing, told_most, told_scale
from tests.edge_agent.policy.kube.engines import ON_H100, SHAPE, WORKLOAD, workload

APPLICATION = {"name": "llama--v7", "import_path": "app:build"}


def made(**changes: Any) -> dict[str, Any]:
    return ray_service(workload(**changes), SHAPE, ON_H100, APPLICATION)


def templates(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = manifest["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def test_its_pods_are_valid_to_the_letter() -> None:
    for template in templates(made()):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {"name": "x", **template["metadata"]}
        kubernetes_validate.validate(pod, "1.36", strict=True)


def test_each_replica_has_a_worker_and_the_head_takes_no_gpu() -> None:
    cluster = made()["spec"]["rayClusterConfig"]
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"]) == (2, 0)
    head, worker = (t["spec"]["containers"][0] for t in templates(made()))
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert group["rayStartParams"] == {"num-cpus": "1"}


def test_rays_autoscaler_runs_beside_the_head_and_may_ask_the_api_server() -> None:
    cluster = made()["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    context = cluster["autoscalerOptions"]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    head, worker = (t["spec"]["automountServiceAccountToken"] for t in templates(made()))
    assert (head, worker) == (True, False)


def test_it_notes_how_many_replicas_it_may_come_to_have() -> None:
    for changes, scale, most in (({}, "2", 2), ({"max_replicas": 5}, "2-5", 5)):
        found = workload(**changes)
        assert (found.scale, found.most) == (scale, most)
        assert (told_scale(made(**changes)), told_most(made(**changes))) == (scale, most)
    assert told_most({}) == 0


def test_it_carries_the_application_and_the_version_of_ray() -> None:
    spec = made()["spec"]
    assert json.loads(spec["serveConfigV2"]) == {"applications": [APPLICATION]}
    assert spec["rayClusterConfig"]["rayVersion"] == "2.60.0"
    unknown = ray_service(WORKLOAD, replace(SHAPE, image="x/ray:mine"), ON_H100, APPLICATION)
    assert "rayVersion" not in unknown["spec"]["rayClusterConfig"]


def test_status_belongs_to_the_operator() -> None:
    assert "status" not in made()


@pytest.mark.parametrize(
    ("new", "second"),
    [
        (made(replicas=5), False),
        (made(max_replicas=9), False),
        (ray_service(WORKLOAD, SHAPE, ON_H100, {**APPLICATION, "args": {}}), False),
        (ray_service(WORKLOAD, replace(SHAPE, image="x/ray:2.61.0"), ON_H100, APPLICATION), True),
        (ray_service(WORKLOAD, SHAPE, Placing(), APPLICATION), True),
    ],
)
def test_what_makes_a_second_cluster(new: dict[str, Any], second: bool) -> None:
    assert needs_second_cluster(made(), new) is second


def test_no_second_cluster_comes_by_itself() -> None:
    assert made()["spec"]["upgradeStrategy"] == {"type": "None"}
    surging = with_surge(made())
    assert surging["spec"]["upgradeStrategy"] == {"type": "NewCluster"}
    assert surging["spec"]["rayClusterConfig"] == made()["spec"]["rayClusterConfig"]


def test_kuberays_service_is_found_and_its_names_are_short_enough() -> None:
    assert serve_host("m-x-v1-abc", "serving") == "m-x-v1-abc-serve-svc.serving.svc"
    longest = workload(model="x" * 63, version=10**6).name
    assert len(longest) <= 47  # KubeRay refuses longer names
