"""What the control plane remembers: immutable records, replaced whole.

Input: made by the deciders. Output: kept in State, stored as JSON, shown by the views.
Persistent records survive a restart; Presence and RouterPresence live in memory only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from federation.contract.capacity import Capacity
from federation.contract.package import ModelPackage
from federation.contract.resources import ClusterSpec, DeploymentSpec, ModelSpec, RegionSpec
from federation.contract.sync import Disk
from federation.contract.types import (
    Assignment,
    EngineKind,
    Location,
    Observed,
    Scheduling,
    Urgency,
)
from federation.policy.access.records import KeyRecord, TenantRecord
from federation.policy.audit.records import Head
from federation.policy.membership.records import (
    JoinTicket,
    Membership,
    RevocationRecord,
    RouterRecord,
)
from federation.policy.meta import Meta
from federation.policy.rollouts.records import EvidenceRecord, RolloutRecord
from federation.policy.sync.records import PrefetchRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRecord:
    """A region."""

    meta: Meta
    spec: RegionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LastObserved:
    """What a cluster served when it last changed: it lets a restarted control plane publish an
    equal snapshot before the agents are back (static stability). The progress of transfers is not
    in it: it lives in the newest reports only. Nor is what devices do now. What is free in the
    capacity's pools is as new as the newest report in memory, and as old as the last other change
    in the store: it changes all the time where others use the cluster as well.

    `stale` says in words why the capacity cannot be relied on; empty = it can."""

    engine: EngineKind
    engine_version: str
    url: str
    capacity: Capacity
    observed: Observed
    disk: Disk = field(default_factory=Disk)
    stale: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRecord:
    """A registered cluster: wish, membership, desired and last known state."""

    meta: Meta
    spec: ClusterSpec
    scheduling: Scheduling = Scheduling.ACTIVE
    ticket: JoinTicket | None = None
    membership: Membership = field(default_factory=Membership)
    epoch: int = 0
    assignment: Assignment
    last: LastObserved | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """One immutable version of a model. `digest` is the manifest's BLAKE3, hex; the manifest itself
    is in the artifact store. `size` (bytes) and `files` (their number) are what it says;
    `signed_by` are the keys (hex) of its owner by which it was signed, besides the federation's.
    `carries_code`: loading it runs code of the owner, or may, by the formats of its files."""

    version: int
    digest: str
    size: int
    files: int
    package: ModelPackage
    source: str
    created_at: datetime
    created_by: str
    chunker: str = ""
    signed_by: tuple[str, ...] = ()
    carries_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A model with all its versions, ordered by number."""

    meta: Meta
    spec: ModelSpec
    versions: tuple[VersionRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRecord:
    """A deployment. `routed_version` answers requests that name no version; 0 = none yet.

    `target` is the version that its spec meant when that was last looked up, `urgency` how urgent
    it became by that; `served` are the last versions that were routed to, the newest one last.
    `rejected` is a version that was rolled back (0 = none): the wish is not followed while it means
    that one. `asleep_since`: nobody used it for so long that it has no replica until asked for.
    """

    meta: Meta
    spec: DeploymentSpec
    routed_version: int = 0
    target: int = 0
    rejected: int = 0
    urgency: Urgency = Urgency.NORMAL
    served: tuple[int, ...] = ()
    asleep_since: datetime | None = None

    @property
    def asleep(self) -> bool:
        """Whether it has no replica until it is asked for."""
        return self.asleep_since is not None and self.spec.scaling.may_sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredModel:
    """What stays of a deleted model: its version numbers are never given to other content."""

    name: str
    last_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """Something that happened, for people: who did what to which object, and why."""

    id: int
    at: datetime
    actor: str
    kind: str
    name: str
    reason: str  # CamelCase, for machines: "ClusterJoined"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The answer given to an idempotency key; a retry with the same request gets it again."""

    key: str
    fingerprint: str
    object_kind: str
    object_name: str
    at: datetime
    created: bool = False
    version: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A cluster's live side: its lease and newest report. In memory only.

    `present` turns False when time passed the end of the lease. `sequence` 0 means that nothing was
    reported in this epoch: what is known of the cluster is what it last said before.
    """

    epoch: int
    expires_at: datetime
    connected: bool
    present: bool = True
    sequence: int = 0
    reported_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSeen:
    """How a router sees a cluster."""

    rtt_ms: float  # 0 = not measured
    healthy: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterPresence:
    """A connected router. In memory only."""

    name: str
    instance: str
    url: str
    location: Location | None
    software_version: str
    connected_at: datetime
    connected: bool = True
    generation: int = 0  # of the certificate that it connected with
    reverse_address: str = ""  # HOST:PORT where agents dial it; empty = takes none
    allow_anonymous: bool = False  # it serves requests without a key
    snapshot_version: int = 0
    rejection: str = ""  # why it NACKed the last snapshot
    requests_total: int = 0
    errors_total: int = 0
    clusters: Mapping[str, ClusterSeen] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)  # requests that wait there, by model


# Which record each kind in the store is; the key is `Put.kind`.
PERSISTENT: dict[str, type] = {
    "Region": RegionRecord,
    "Cluster": ClusterRecord,
    "Model": ModelRecord,
    "Deployment": DeploymentRecord,
    "Rollout": RolloutRecord,
    "Evidence": EvidenceRecord,
    "Prefetch": PrefetchRecord,
    "Router": RouterRecord,
    "Tenant": TenantRecord,
    "Key": KeyRecord,
    "Revocation": RevocationRecord,
    "RetiredModel": RetiredModel,
    "Event": AuditRecord,
    "AuditHead": Head,
    "Receipt": Receipt,
}
