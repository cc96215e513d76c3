"""What all engines that the agent runs on Kubernetes have in common: names, labels, pods.

Input: one model version with its needs, and how the operator wants engines to look. Output: pieces
of manifests. Pods satisfy the Pod Security Standard `restricted`:
https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_agent.policy.kube.fields import Json, mapping, text
from edge_agent.policy.kube.tolerations import GPU_TOLERATIONS, Toleration
from edge_agent.policy.kube.view import OURS
from federation.contract.capacity import Resources

PREFIX = "federation.inference"
CLUSTER = f"{PREFIX}/cluster"
WORKLOAD = f"{PREFIX}/workload"  # the object's name, on its pods as well
REVISION = f"{PREFIX}/revision"  # of a pod's template
MODEL, VERSION = f"{PREFIX}/model", f"{PREFIX}/version"
DIGEST, PROTOCOL = f"{PREFIX}/digest", f"{PREFIX}/protocol"
NEEDS, PLACING = f"{PREFIX}/needs", f"{PREFIX}/placing"
REPLICAS = f"{PREFIX}/replicas"  # how many it shall have, or from how many to how many

MODELS_DIR = "/models"  # where an engine sees the folder of its version
PROGRESS_S = 540  # so long a rollout may make no progress: images and models are large
USER = 1000  # of both vendors' images
_LONGEST = 40  # KubeRay makes longer names of it, which have to stay below 63 characters

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineShape:
    """How the operator wants engines to look.

    `claim` is the volume that the agent writes versions to, `path` its folder in there. `cpu` and
    `memory` are quantities that each replica requests.
    """

    namespace: str
    cluster: str
    image: str
    claim: str
    path: str = ""
    cpu: str = "1"
    memory: str = "4Gi"
    tolerations: Sequence[Toleration] = GPU_TOLERATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One model version as it shall run. `folder` holds its files, below the shape's path. With
    `max_replicas` the engine's own autoscaler decides, from `replicas` on."""

    model: str
    version: int
    digest: str
    protocol: str
    folder: str
    replicas: int = 1
    max_replicas: int = 0
    resources: Resources = field(default_factory=Resources)

    @property
    def most(self) -> int:
        """Return how many replicas it may come to have."""
        return max(self.replicas, self.max_replicas, 1)

    @property
    def scale(self) -> str:
        """Return how many replicas it shall have, as its main object notes it."""
        least = max(self.replicas, 1)
        return f"{least}-{self.most}" if self.max_replicas else str(least)

    @property
    def name(self) -> str:
        """Return the name of its objects."""
        return object_name(self.model, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """What a replica asks for, and on which nodes: those where label `key` is one of `values`."""

    resource: str = ""  # "" = no GPU
    units: int = 0
    key: str = ""
    values: tuple[str, ...] = ()


def object_name(model: str, version: int) -> str:
    """Return a name that Services and RayServices may have: the model's, made simple, and a hash.

    Models may have capitals, dots and underscores in theirs.
    """
    told = hashlib.sha256(f"{model}@{version}".encode()).hexdigest()[:6]
    tail = f"-v{version}-{told}"
    simple = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return f"m-{simple}"[: _LONGEST - len(tail)].rstrip("-") + tail


def our_labels(shape: EngineShape, name: str) -> dict[str, str]:
    """Return the labels of an object and of its pods."""
    return {**OURS, CLUSTER: shape.cluster, WORKLOAD: name}


def selector(cluster: str, name: str = "") -> str:
    """Return what selects our objects, or those of one version."""
    labels = {**OURS, CLUSTER: cluster, **({WORKLOAD: name} if name else {})}
    return ",".join(f"{key}={value}" for key, value in labels.items())


def is_ours(obj: Json, cluster: str) -> bool:
    """Return whether an object was made by this cluster's agent."""
    labels = mapping(obj, "metadata", "labels")
    return all(labels.get(key) == value for key, value in {**OURS, CLUSTER: cluster}.items())


def metadata(workload: Workload, shape: EngineShape, placing: Placing | None = None) -> Obj:
    """Return the metadata of an object; what it serves is in annotations, which take any text.

    The main object also notes where it was placed, so that it stays there when it is changed.
    """
    notes = {
        MODEL: workload.model,
        VERSION: str(workload.version),
        DIGEST: workload.digest,
        PROTOCOL: workload.protocol,
    }
    if placing is not None:
        notes |= {NEEDS: _needs(workload), PLACING: json.dumps(asdict(placing))}
        notes[REPLICAS] = workload.scale
    return {
        "name": workload.name,
        "namespace": shape.namespace,
        "labels": our_labels(shape, workload.name),
        "annotations": notes,
    }


def told_placing(obj: Json, workload: Workload) -> Placing | None:
    """Return where one of our objects was placed; None if it was for other needs."""
    notes = mapping(obj, "metadata", "annotations")
    if text(notes, NEEDS) != _needs(workload):
        return None
    try:
        found = json.loads(text(notes, PLACING))
        return Placing(**{**found, "values": tuple(found["values"])})
    except (ValueError, TypeError, KeyError):
        return None


def _needs(workload: Workload) -> str:
    return revision(asdict(workload.resources))


def told_most(obj: Json) -> int:
    """Return how many replicas one of our objects may come to have; 0 if it does not tell."""
    most = told_scale(obj).rpartition("-")[2]
    return int(most) if most.isdecimal() else 0


def told_scale(obj: Json) -> str:
    """Return how many replicas one of our objects shall have, as a Workload's `scale`."""
    return text(obj, "metadata", "annotations", REPLICAS)


def told_version(obj: Json) -> tuple[str, int, str, str] | None:
    """Return (model, version, digest, protocol) of one of our objects; None if it tells none."""
    notes = mapping(obj, "metadata", "annotations")
    model, version = text(notes, MODEL), text(notes, VERSION)
    if not model or not version.isdecimal():
        return None
    return model, int(version), text(notes, DIGEST), text(notes, PROTOCOL)


def revision(template: Mapping[str, Any]) -> str:
    """Return a short hash of (a part of) a manifest, for a label."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]


def pod_spec(workload: Workload, shape: EngineShape, placing: Placing, container: Obj) -> Obj:
    """Return the spec of a pod with one container that reads the version's folder.

    No fsGroup: it would make the kubelet change the owner of everything on the shared volume.
    """
    container = {
        **container,
        "image": shape.image,
        "terminationMessagePolicy": "FallbackToLogsOnError",  # so that the agent can tell why
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            **container.get("securityContext", {}),
        },
        "volumeMounts": [
            {
                "name": "models",
                "mountPath": MODELS_DIR,
                "subPath": "/".join(part for part in (shape.path, workload.folder) if part),
                "readOnly": True,
            },
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  # a volume of the pod's own
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # the same
        ],
    }
    spec: Obj = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [_toleration(each) for each in shape.tolerations],
        "containers": [container],
        "volumes": [
            {
                "name": "models",
                "persistentVolumeClaim": {"claimName": shape.claim, "readOnly": True},
            },
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "8Gi"}},
        ],
    }
    if placing.key:
        wanted = {"key": placing.key, "operator": "In", "values": list(placing.values)}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        }
    return spec


def container_resources(shape: EngineShape, placing: Placing) -> Obj:
    """Return requests and limits of a replica; extended resources want both equal."""
    units = {placing.resource: str(placing.units)} if placing.resource else {}
    return {
        "requests": {"cpu": shape.cpu, "memory": shape.memory, **units},
        "limits": {"memory": shape.memory, **units},
    }


def _toleration(toleration: Toleration) -> Obj:
    found = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
    }
    return {key: value for key, value in found.items() if value}
