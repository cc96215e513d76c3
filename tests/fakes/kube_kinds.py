"""Which kinds the fake Kubernetes API server knows, its Status objects, its discovery documents."""

from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of one version of an API group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = True  # has a status subresource
    generation: bool = True  # counts changes of its spec

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS = (
    Kind("", "v1", "nodes", "Node", namespaced=False, generation=False),
    Kind("", "v1", "namespaces", "Namespace", namespaced=False, generation=False),
    Kind("", "v1", "pods", "Pod"),
    Kind("", "v1", "services", "Service", generation=False),
    Kind("apps", "v1", "deployments", "Deployment"),
    Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Kind("coordination.k8s.io", "v1", "leases", "Lease", status=False, generation=False),
    Kind("ray.io", "v1", "rayservices", "RayService"),
    Kind(
        "resource.k8s.io", "v1", "resourceslices", "ResourceSlice", namespaced=False, status=False
    ),
    Kind("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", generation=False),
    Kind("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", namespaced=False, status=False),
    Kind(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
    ),
    Kind("federation.inference", "v1alpha1", "edgeclusters", "EdgeCluster"),
    Kind("federation.inference", "v1alpha1", "modeldeployments", "ModelDeployment"),
    Kind("federation.inference", "v1alpha1", "rollouts", "Rollout"),
)


class Refusal(Exception):
    """An answer that is not a success: becomes a Status object."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        causes: list[Obj] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.causes = causes or []
        self.retry_after_s = retry_after_s

    def status(self) -> Obj:
        """The Status object that goes into the body."""
        details: Obj = {}
        if self.causes:
            details["causes"] = self.causes
        if self.retry_after_s is not None:
            details["retryAfterSeconds"] = self.retry_after_s
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": details,
            "code": self.code,
        }


def not_found(kind: Kind, name: str) -> Refusal:
    return Refusal(404, "NotFound", f'{kind.qualified} "{name}" not found')


def invalid(kind: Kind, name: str, field: str, problem: str) -> Refusal:
    full = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    message = f'{full} "{name}" is invalid: {field}: {problem}'
    cause = {"reason": "FieldValueInvalid", "message": problem, "field": field}
    return Refusal(422, "Invalid", message, causes=[cause])


def too_old(what: str) -> Refusal:
    return Refusal(410, "Expired", f"too old resource version: {what}")


def discovery(path: str, kinds: tuple[Kind, ...]) -> Obj | None:
    """The document at one of the discovery paths, None if there is none."""
    groups = sorted(
        {(k.group, k.version) for k in kinds if k.group} | {("authorization.k8s.io", "v1")}
    )
    match path.strip("/").split("/"):
        case ["version"]:
            return {
                "major": "1",
                "minor": "36",
                "gitVersion": "v1.36.0-fake",
                "platform": "linux/amd64",
            }
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [_group(*g) for g in groups],
            }
        case ["api", "v1"]:
            return _resources("v1", [k for k in kinds if not k.group])
        case ["apis", group, version] if (group, version) in groups:
            found = [k for k in kinds if (k.group, k.version) == (group, version)]
            return _resources(f"{group}/{version}", found)
    return None


def _group(group: str, version: str) -> Obj:
    served = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [served], "preferredVersion": served}


def _resources(group_version: str, kinds: list[Kind]) -> Obj:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources: list[Obj] = []
    for kind in kinds:
        entry = {
            "name": kind.plural,
            "singularName": kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": verbs,
        }
        resources.append(entry)
        if kind.status:
            resources.append(
                {**entry, "name": f"{kind.plural}/status", "verbs": ["get", "patch", "update"]}
            )
    if group_version == "authorization.k8s.io/v1":
        name = "selfsubjectaccessreviews"
        kind_name = "SelfSubjectAccessReview"
        resources = [{"name": name, "namespaced": False, "kind": kind_name, "verbs": ["create"]}]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }
