"""The kinds of Kubernetes objects that we deal with, and where the API server has them.

Input: named by the code that reads or writes them. Output: paths of requests.
https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federation.contract.errors import Invalid


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of objects: `group` is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """Return what manifests say as `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return the path of one object, or of all in a namespace, or of all."""
        steps = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            steps += ["namespaces", namespace]
        return "/" + "/".join([*steps, self.plural, *([name] if name else [])])


NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
SERVICES = Resource("", "v1", "services", "Service")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
POD_DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
RAY_SERVICES = Resource("ray.io", "v1", "rayservices", "RayService")
_DRA = "resource.k8s.io"  # dynamic resource allocation
RESOURCE_SLICES = Resource(_DRA, "v1", "resourceslices", "ResourceSlice", namespaced=False)
RESOURCE_CLAIMS = Resource(_DRA, "v1", "resourceclaims", "ResourceClaim")
DEVICE_CLASSES = Resource(_DRA, "v1", "deviceclasses", "DeviceClass", namespaced=False)
OUR_GROUP = "federation.inference"  # as our labels
EDGE_CLUSTERS = Resource(OUR_GROUP, "v1alpha1", "edgeclusters", "EdgeCluster")
MODEL_DEPLOYMENTS = Resource(OUR_GROUP, "v1alpha1", "modeldeployments", "ModelDeployment")
ROLLOUTS = Resource(OUR_GROUP, "v1alpha1", "rollouts", "Rollout")

RESOURCES = (
    NODES,
    PODS,
    NAMESPACES,
    SERVICES,
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    LEASES,
    RAY_SERVICES,
    RESOURCE_SLICES,
    RESOURCE_CLAIMS,
    DEVICE_CLASSES,
    EDGE_CLUSTERS,
    MODEL_DEPLOYMENTS,
    ROLLOUTS,
)
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in RESOURCES}


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """Return the resource that a manifest is of; raises Invalid if it is none of ours."""
    key = (str(manifest.get("apiVersion")), str(manifest.get("kind")))
    if key not in _BY_KIND:
        raise Invalid(f"nothing here writes objects of the kind {key[1]} ({key[0]}).")
    return _BY_KIND[key]
