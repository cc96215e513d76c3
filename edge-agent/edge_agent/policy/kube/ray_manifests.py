"""One model version as a Ray cluster of its own: a RayService for KubeRay.

Input: a Workload, the operator's EngineShape, where it may run, the Serve application. Output: the
manifest for server-side apply, and whether a change of it makes a second Ray cluster. Each replica
has a worker pod for itself, which has what it was given room for; the head computes nothing.

KubeRay takes the number of workers over when it makes a cluster, and never again. So Ray's own
autoscaler runs beside the head: it starts a worker for each replica that Serve wants, and ends
those that are left without one. How many there are is in Serve's configuration alone.
https://docs.ray.io/en/latest/cluster/kubernetes/user-guides/rayservice.html
https://docs.ray.io/en/latest/cluster/kubernetes/user-guides/configuring-autoscaling.html
https://github.com/ray-project/kuberay/issues/2331
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from edge_agent.policy.kube.fields import Json, text
from edge_agent.policy.kube.workloads import (
    PREFIX,
    PROGRESS_S,
    REVISION,
    EngineShape,
    Obj,
    Placing,
    Workload,
    container_resources,
    metadata,
    our_labels,
    pod_spec,
    revision,
)

SERVE, DASHBOARD, GCS = 8000, 8265, 6379
CLUSTER_SPEC = f"{PREFIX}/cluster-spec"  # hash of what KubeRay makes a new cluster for
NEW_CLUSTER, NO_UPGRADE = "NewCluster", "None"
GRACE_S = 40
IDLE_S = 60  # a worker without a replica goes after so long
_MOST = 1000  # workers; a change of this number would count as a change of the cluster
_GROUP = "replicas"
_RAY_VERSION = re.compile(r":(\d+\.\d+\.\d+)")


def ray_service(
    workload: Workload, shape: EngineShape, placing: Placing, application: Mapping[str, Any]
) -> Obj:
    """Return the RayService; it never makes a second cluster by itself (see `with_surge`)."""
    cluster = _cluster(workload, shape, placing)
    about = metadata(workload, shape, placing)
    about["annotations"] |= {
        CLUSTER_SPEC: revision(_without_replicas(cluster)),
        "ray.io/initializing-timeout": f"{PROGRESS_S}s",
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": about,
        "spec": {
            "upgradeStrategy": {"type": NO_UPGRADE},
            "serveConfigV2": json.dumps({"applications": [application]}, sort_keys=True),
            "rayClusterConfig": cluster,
        },
    }


def needs_second_cluster(old: Json, new: Json) -> bool:
    """Return whether KubeRay can make `new` of `old` only with a second Ray cluster beside it."""
    specs = [text(obj, "metadata", "annotations", CLUSTER_SPEC) for obj in (old, new)]
    return specs[0] != specs[1]


def with_surge(manifest: Obj) -> Obj:
    """Return the manifest so that a change of the cluster is carried out, with twice the GPUs."""
    return {**manifest, "spec": {**manifest["spec"], "upgradeStrategy": {"type": NEW_CLUSTER}}}


def serve_host(workload_name: str, namespace: str) -> str:
    """Return the host of the Service that KubeRay makes for the running cluster."""
    return f"{workload_name}-serve-svc.{namespace}.svc"


def _cluster(workload: Workload, shape: EngineShape, placing: Placing) -> Obj:
    cluster: Obj = {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "idleTimeoutSeconds": IDLE_S,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        },
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104  # in its pod
            "template": _template(workload, shape, placing, head=True),
        },
        "workerGroupSpecs": [
            {
                "groupName": _GROUP,
                "replicas": max(workload.replicas, 1),
                "minReplicas": 0,
                "maxReplicas": _MOST,
                "rayStartParams": {"num-cpus": "1"},
                "template": _template(workload, shape, placing, head=False),
            }
        ],
    }
    if found := _RAY_VERSION.search(shape.image):
        cluster["rayVersion"] = found[1]
    return cluster


def _template(workload: Workload, shape: EngineShape, placing: Placing, *, head: bool) -> Obj:
    container: Obj = {"name": "ray-head" if head else "ray-worker"}
    where = Placing() if head else placing  # the head takes no GPU from a replica
    container["resources"] = container_resources(shape, where)
    if head:
        container["ports"] = [
            {"name": "gcs-server", "containerPort": GCS},
            {"name": "dashboard", "containerPort": DASHBOARD},
            {"name": "serve", "containerPort": SERVE},
        ]
    pod = pod_spec(workload, shape, where, container)
    pod["terminationGracePeriodSeconds"] = GRACE_S
    if head:  # its autoscaler asks the API server for workers, as an account that KubeRay makes
        pod["automountServiceAccountToken"] = True
    labels = our_labels(shape, workload.name)
    return {"metadata": {"labels": {**labels, REVISION: revision(pod)}}, "spec": pod}


def _without_replicas(cluster: Obj) -> Obj:
    groups = [{**group, "replicas": 0} for group in cluster["workerGroupSpecs"]]
    return {**cluster, "workerGroupSpecs": groups}
