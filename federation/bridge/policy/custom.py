"""Our custom resources as the bridge reads them, and their specs in the control plane's words.

Input: objects of the Kubernetes API. Output: Custom objects, and specs of the operator API. Their
fields are those of `fed apply` in the spelling of Kubernetes: `cluster_labels` is `clusterLabels`,
`up_s` is `upSeconds`. `deletionPolicy`, `paused` and `scheduling` are for the bridge alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

import msgspec

from federation.cli.documents import Json, look, look_list, look_map
from federation.contract.errors import Invalid
from federation.contract.resources import KINDS, Kind
from federation.kube.resources import (
    EDGE_CLUSTERS,
    MODEL_DEPLOYMENTS,
    OUR_GROUP,
    ROLLOUTS,
    Resource,
)

FINALIZER = f"{OUR_GROUP}/bridge"  # deletions wait until the control plane has followed
ADOPT = f"{OUR_GROUP}/adopt"  # annotation: take over what the bridge did not make
KEEP = "Keep"  # a deletionPolicy: the control plane keeps its object
OUR_FIELDS = ("deletionPolicy", "paused", "scheduling")


@dataclass(frozen=True, slots=True)
class Bridged:
    """A kind of custom resources, and the kind of the operator API that it stands for."""

    resource: Resource
    kind: Kind


def _kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


CLUSTER = Bridged(EDGE_CLUSTERS, _kind("Cluster"))
DEPLOYMENT = Bridged(MODEL_DEPLOYMENTS, _kind("Deployment"))
ROLLOUT = Bridged(ROLLOUTS, _kind("Rollout"))
BRIDGED = (CLUSTER, DEPLOYMENT, ROLLOUT)  # what others refer to comes first


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom:
    """One custom resource. `version` is its resource version; `claim` and `created_at` are what the
    bridge noted in its status: see `decide`."""

    bridged: Bridged
    namespace: str
    name: str
    uid: str
    version: str
    generation: int
    deleting: bool
    finalizers: tuple[str, ...]
    adopt: bool
    spec: Json
    status: Json

    @property
    def keep(self) -> bool:
        """Whether the control plane's object shall outlive this one."""
        return self.spec.get("deletionPolicy") == KEEP

    @property
    def scheduling(self) -> str:
        """Return how the cluster shall be scheduled; "" = as operators say."""
        return str(self.spec.get("scheduling") or "")

    @property
    def paused(self) -> bool | None:
        """Whether the rollout shall be paused; None = as people say."""
        said = self.spec.get("paused")
        return said if isinstance(said, bool) else None

    @property
    def claim(self) -> str:
        """Return the claim under which the object is being made; "" = none."""
        return str(self.status.get("claim") or "")

    @property
    def created_at(self) -> str:
        """Return when our object was created; "" = there is none of ours."""
        return str(self.status.get("createdAt") or "")


def read(bridged: Bridged, obj: Mapping[str, Any]) -> Custom:
    """Return an object of the Kubernetes API as a Custom."""
    metadata = look_map(obj, "metadata")
    return Custom(
        bridged=bridged,
        namespace=str(metadata.get("namespace") or ""),
        name=str(metadata.get("name") or ""),
        uid=str(metadata.get("uid") or ""),
        version=str(metadata.get("resourceVersion") or ""),
        generation=int(metadata.get("generation") or 0),
        deleting=bool(metadata.get("deletionTimestamp")),
        finalizers=tuple(map(str, look_list(obj, "metadata", "finalizers"))),
        adopt=look(obj, "metadata", "annotations", ADOPT) == "true",
        spec=look_map(obj, "spec"),
        status=look_map(obj, "status"),
    )


def spec_of(custom: Custom) -> object:
    """Return the spec for the control plane, with all defaults filled in; raises Invalid."""
    kind = custom.bridged.kind
    assert kind.spec is not None  # noqa: S101  # BRIDGED has writable kinds alone
    written = {key: value for key, value in custom.spec.items() if key not in OUR_FIELDS}
    try:
        return msgspec.convert(_snake(written, kind.spec, "spec"), kind.spec, strict=True)
    except msgspec.ValidationError as error:
        raise Invalid(f"the spec cannot be understood: {error}.") from None


def camel(name: str) -> str:
    """Return how Kubernetes spells a field of ours: `up_s` becomes `upSeconds`."""
    first, *rest = name.removesuffix("_s").split("_")
    rest += ["seconds"] if name.endswith("_s") else []
    return first + "".join(word.capitalize() for word in rest)


def dataclass_in(hint: Any) -> type | None:
    """Return the dataclass in a type like `X`, `X | None` or `tuple[X, ...]`; None without one."""
    if is_dataclass(hint) and isinstance(hint, type):
        return hint
    found = (dataclass_in(each) for each in get_args(hint))
    return next((each for each in found if each is not None), None)


def _snake(value: object, target: type, path: str) -> object:
    if isinstance(value, list):
        return [_snake(each, target, path) for each in value]
    if not isinstance(value, dict):
        return value  # of a wrong type: told when it is converted
    hints = get_type_hints(target)
    names = {camel(field.name): field.name for field in fields(target)}
    found = {}
    for key, each in value.items():
        if key not in names:
            raise Invalid(
                f"{path}.{key} is not known to this version of the bridge.",
                hint="Use a bridge as new as the custom resource definitions.",
            )
        inner = dataclass_in(hints[names[key]])
        found[names[key]] = _snake(each, inner, f"{path}.{key}") if inner else each
    return found
