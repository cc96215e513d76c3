"""One model version as a Triton of its own: Deployment, Service, PodDisruptionBudget.

Input: a Workload, the operator's EngineShape, where it may run. Output: manifests for server-side
apply. A Triton per version: versions come and go, and fail, without touching each other, and each
asks for the GPUs that it was given room for. Nothing can be loaded into it afterwards (control mode
`none`): what it serves is its folder, all of it or it ends.
"""

from edge_agent.policy.kube.view import OURS
from edge_agent.policy.kube.workloads import (
    MODELS_DIR,
    PROGRESS_S,
    REVISION,
    WORKLOAD,
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

HTTP, GRPC, METRICS = 8000, 8001, 8002
EXIT_S = 25  # Triton lets requests in flight end for so long
GRACE_S = 40  # above the former, below what the agent waits for pods to go
READY, LIVE = "/v2/health/ready", "/v2/health/live"


def triton_manifests(workload: Workload, shape: EngineShape, placing: Placing) -> tuple[Obj, ...]:
    """Return all objects of a version, in the order in which to apply them."""
    return (
        disruption_budget(workload, shape),
        service(workload, shape),
        deployment(workload, shape, placing),
    )


def deployment(workload: Workload, shape: EngineShape, placing: Placing) -> Obj:
    """Return the Deployment. No surge: where all GPUs are taken a rollout would wait for ever."""
    container: Obj = {
        "name": "triton",
        "args": [
            "tritonserver",
            f"--model-repository={MODELS_DIR}",
            "--model-control-mode=none",
            "--strict-readiness=true",
            f"--exit-timeout-secs={EXIT_S}",
            "--disable-auto-complete-config",
            "--log-info=false",  # of its last words 2 KiB are kept: not for a table of options
        ],
        "ports": [
            {"name": "http", "containerPort": HTTP},
            {"name": "grpc", "containerPort": GRPC},
            {"name": "metrics", "containerPort": METRICS},
        ],
        "startupProbe": {**_probe(READY), "periodSeconds": 5, "failureThreshold": 120},
        "readinessProbe": {**_probe(READY), "periodSeconds": 5},
        "livenessProbe": {**_probe(LIVE), "periodSeconds": 10, "failureThreshold": 6},
        "resources": container_resources(shape, placing),
        "securityContext": {"readOnlyRootFilesystem": True},
    }
    pod = pod_spec(workload, shape, placing, container)
    pod["terminationGracePeriodSeconds"] = GRACE_S
    labels = our_labels(shape, workload.name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(workload, shape, placing),
        "spec": {
            "replicas": max(workload.replicas, 1),
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": PROGRESS_S,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
            },
            "selector": {"matchLabels": _matched(workload)},
            "template": {
                "metadata": {"labels": {**labels, REVISION: revision(pod)}},
                "spec": pod,
            },
        },
    }


def service(workload: Workload, shape: EngineShape) -> Obj:
    """Return the Service by which the gateway reaches the replicas."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(workload, shape),
        "spec": {
            "selector": _matched(workload),
            "ports": [
                {"name": "http", "port": HTTP, "targetPort": "http"},
                {
                    "name": "grpc",
                    "port": GRPC,
                    "targetPort": "grpc",
                    "appProtocol": "kubernetes.io/h2c",
                },
            ],
        },
    }


def disruption_budget(workload: Workload, shape: EngineShape) -> Obj:
    """Return the PodDisruptionBudget: drains of nodes take one replica after the other."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(workload, shape),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _matched(workload)}},
    }


def _matched(workload: Workload) -> dict[str, str]:
    return {**OURS, WORKLOAD: workload.name}


def _probe(path: str) -> Obj:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 3}
