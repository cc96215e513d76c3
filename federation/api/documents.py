"""The shapes of the resource documents, as the OpenAPI document tells them.

Input: none. Output: types whose schemas describe what `policy.views` returns; a test holds the two
together. Metadata keys are in camelCase as in Kubernetes, spec and status keys as in our types.
"""

from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from datetime import datetime
from types import GenericAlias
from typing import Any

from federation.api.documents_access import KeyStatus, TenantStatus
from federation.api.documents_capacity import CapacityStatus, VersionView
from federation.api.documents_rollout import RolloutStatus
from federation.api.documents_sync import DiskView, PrefetchStatus
from federation.contract.resources import (
    ClusterSpec,
    DeploymentSpec,
    ModelSpec,
    PrefetchSpec,
    RegionSpec,
    RouterSpec,
    TenantSpec,
)
from federation.contract.rollout import RolloutSpec
from federation.contract.types import (
    Connectivity,
    EngineKind,
    Location,
    ModelProtocol,
    Runtime,
    Scheduling,
    VersionState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Identity of an object. Send `resourceVersion` back to change only what you have read."""

    name: str
    generation: int | None = None
    resourceVersion: int | None = None  # noqa: N815
    createdAt: datetime | None = None  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a PUT takes. `status` may come back as it was read; it is ignored."""

    apiVersion: str  # noqa: N815
    kind: str
    metadata: Metadata
    spec: Mapping[str, Any]
    status: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What all documents have."""

    apiVersion: str  # noqa: N815
    kind: str
    metadata: Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionStatus:
    """What is in a region."""

    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region(Resource):
    """A named region."""

    spec: RegionSpec
    status: RegionStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineView:
    """The serving engine of a cluster."""

    kind: EngineKind
    version: str
    ready: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """A cluster's permission to count as present."""

    epoch: int
    expires_in_s: float
    connected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCount:
    """How many model versions are warm, of how many that are to be loaded."""

    warm: int
    assigned: int
    staged: int  # shall lie ready there and are not loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One aspect of an object's health, in Kubernetes' words."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """What is known of a cluster. `reason` says in words why it is not ready."""

    ready: bool
    reason: str
    scheduling: Scheduling
    engine: EngineView
    url: str
    gpus: int
    gpu_products: Mapping[str, int]
    capacity: CapacityStatus
    lease: LeaseView
    last_report_s: float | None
    joined: bool
    accepted: bool
    revoked: bool
    joined_at: datetime | None
    certificate_generation: int
    waiting_key_sha256: str
    connectivity: Connectivity
    models: ModelCount
    disk: DiskView
    versions: tuple[VersionView, ...]
    rtt_ms: Mapping[str, float]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(Resource):
    """A registered GPU cluster."""

    spec: ClusterSpec
    status: ClusterStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedVersion:
    """One immutable version of a model."""

    version: int
    digest: str
    size: int
    files: int
    runtime: Runtime
    protocol: ModelProtocol
    source: str
    signed_by: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """The versions of a model."""

    versions: tuple[PushedVersion, ...]
    latest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Resource):
    """A model with its versions."""

    spec: ModelSpec
    status: ModelStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedVersion:
    """One version of a deployment at one cluster. `busy` is which part of what its `replicas` can
    do they do now; null = not known. `max_replicas`: the engine decides, from `given` on."""

    version: int
    state: VersionState
    replicas: int
    given: int
    max_replicas: int
    busy: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCluster:
    """One cluster of a deployment."""

    cluster: str
    region: str
    versions: tuple[PlacedVersion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """A selected cluster that cannot serve, and why, in words."""

    cluster: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentStatus:
    """Where a deployment stands. `routed_version` answers requests that name no version; `rollout`
    goes on for its model ("" = none); `rejected` is a version that was rolled back and is not tried
    again by itself (0 = none); `asleep_since` is null unless it has no replica because nobody uses
    it."""

    version: int
    routed_version: int
    ready: bool
    reason: str
    clusters: tuple[PlacedCluster, ...]
    cannot: tuple[Obstacle, ...]
    warm: int
    wanted: int
    rollout: str
    rejected: int
    asleep_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(Resource):
    """A model owner's wish, and how far it came true."""

    spec: DeploymentSpec
    status: DeploymentStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout(Resource):
    """A model's way from one version to another, wave by wave."""

    spec: RolloutSpec
    status: RolloutStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefetch(Resource):
    """A wish that a version lies ready, and how far it came true."""

    spec: PrefetchSpec
    status: PrefetchStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCluster:
    """How a router sees a cluster."""

    rtt_ms: float
    healthy: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterStatus:
    """A router's membership, and what it told of itself since the control plane started."""

    joined: bool
    accepted: bool
    revoked: bool
    joined_at: datetime | None
    certificate_generation: int
    waiting_key_sha256: str
    reverse_address: str
    allow_anonymous: bool
    instance: str
    software_version: str
    url: str
    connected: bool
    connected_at: datetime | None
    snapshot_version: int
    rejection: str
    requests_total: int
    errors_total: int
    clusters: Mapping[str, SeenCluster]
    held: Mapping[str, int]  # requests that wait there for a model that sleeps
    location: Location | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Router(Resource):
    """A registered router."""

    spec: RouterSpec
    status: RouterStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant(Resource):
    """A user of the inference endpoint, and what it may do."""

    spec: TenantSpec
    status: TenantStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStatus:
    """What happened."""

    at: datetime
    actor: str
    kind: str
    name: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Resource):
    """Something that happened: who did what to which object."""

    spec: Mapping[str, Any]
    status: EventStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(Resource):
    """A key of a person, a program or a tenant."""

    spec: Mapping[str, Any]
    status: KeyStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMetadata:
    """The revision to watch from."""

    resourceVersion: int  # noqa: N815


DOCUMENTS: Mapping[str, type] = {
    cls.__name__: cls
    for cls in (
        *(Region, Cluster, Model, Deployment, Rollout),
        *(Prefetch, Router, Tenant, Key, Event),
    )
}
LISTS: Mapping[str, type] = {
    name: make_dataclass(
        f"{name}List",
        [
            ("apiVersion", str),
            ("kind", str),
            ("metadata", ListMetadata),
            ("items", GenericAlias(tuple, (cls, ...))),
        ],
        namespace={"__doc__": f"All objects of kind {name}."},
        frozen=True,
    )
    for name, cls in DOCUMENTS.items()
}
