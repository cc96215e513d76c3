"""Objects for the contract of API servers: of each kind that the agent writes, one."""

from typing import Any

from tests.contract.kube_servers import Server

Obj = dict[str, Any]


def lease(server: Server, name: str, **labels: str) -> Obj:
    """An object that no controller touches."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": server.namespace, "labels": labels},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15},
    }


def deployment(server: Server, name: str = "triton", image: str = "example.com/triton:1") -> Obj:
    """A Deployment of no pods."""
    container = {"name": "triton", "image": image, "args": ["--model-repository=/models"]}
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": server.namespace, "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def pod(server: Server, name: str) -> Obj:
    """A pod that no node takes."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": server.namespace},
        "spec": {
            "containers": [{"name": "main", "image": "example.com/none:1"}],
            "nodeSelector": {"federation.inference/no-such-node": "true"},
        },
    }


def service(server: Server) -> Obj:
    port = {"name": "http", "port": 8000, "targetPort": 8000, "protocol": "TCP"}
    return _named(server, "v1", "Service", {"selector": {"app": "triton"}, "ports": [port]})


def budget(server: Server) -> Obj:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "triton"}}}
    return _named(server, "policy/v1", "PodDisruptionBudget", spec)


def claim(server: Server) -> Obj:
    request = {"name": "gpu", "exactly": {"deviceClassName": "federation-test"}}
    return _named(
        server, "resource.k8s.io/v1", "ResourceClaim", {"devices": {"requests": [request]}}
    )


def ray_service(server: Server) -> Obj:
    template = {"spec": {"containers": [{"name": "ray-head", "image": "example.com/ray:2"}]}}
    head = {"rayStartParams": {}, "template": template}
    spec = {
        "serveConfigV2": "applications: []\n",
        "rayClusterConfig": {"rayVersion": "2.50.0", "headGroupSpec": head},
    }
    return _named(server, "ray.io/v1", "RayService", spec)


def _named(server: Server, api_version: str, kind: str, spec: Obj) -> Obj:
    metadata = {"name": "one", "namespace": server.namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
