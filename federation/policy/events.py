"""What can happen to the control plane, and what it can decide to do. Past tense, then imperative.

Input: built by `federation.api` from HTTP and gRPC, and by the control loop's own timer. Output:
`decide` takes one event and returns commands, which the control loop performs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from federation.contract.package import ModelPackage
from federation.contract.resources import ClusterSpec, DeploymentSpec, ModelSpec, RegionSpec
from federation.contract.types import (
    Assignment,
    Connectivity,
    EngineKind,
    Location,
    Report,
    Scheduling,
)
from federation.policy.access.events import KeyCreated, TenantApplied
from federation.policy.audit.events import (
    AccessDenied,
    AppendAudit,
    StoreCollected,
    VersionVerified,
)
from federation.policy.membership.events import (
    CloseRouter,
    Joined,
    PeerAccepted,
    PeerJoined,
    PeerRevoked,
    PublishRouters,
    PublishTrust,
    RootPrepared,
    RouterRegistered,
)
from federation.policy.records import ClusterSeen
from federation.policy.rollouts.events import (
    RolloutApplied,
    RolloutSteered,
    RolloutUndone,
    RouterCounted,
)
from federation.policy.sync.events import PrefetchApplied

# ------------------------------------------------------------ events: from people
# `actor` is who did it. `expected` is the resource version that the caller read; None = any.


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionApplied:
    """A region was created or changed."""

    actor: str
    name: str
    spec: RegionSpec
    expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRegistered:
    """An operator registered a cluster (or, with `rejoin`, lets a known one join anew)."""

    actor: str
    name: str
    spec: ClusterSpec
    token_sha256: str
    token_expires_at: datetime
    require_accept: bool = False
    rejoin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterApplied:
    """The spec of a registered cluster was changed."""

    actor: str
    name: str
    spec: ClusterSpec
    expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSchedulingChanged:
    """A cluster was cordoned, uncordoned or set to drain."""

    actor: str
    name: str
    scheduling: Scheduling


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelApplied:
    """Description and aliases of a model were set; a model without versions may be created so."""

    actor: str
    name: str
    spec: ModelSpec
    expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionPushed:
    """All chunks of a package are stored; it becomes the next version of its model.

    `digest` is that of its manifest, which says `size` (bytes) and `files` (their number) and names
    the package's model; `signed_by` are the owner's keys (hex) whose signatures were checked.
    """

    actor: str
    package: ModelPackage
    digest: str
    size: int
    files: int
    source: str
    chunker: str = ""
    signed_by: tuple[str, ...] = ()
    carries_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMoved:
    """An alias of a model was set to a version, or removed (version None)."""

    actor: str
    model: str
    alias: str
    version: int | None
    expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentApplied:
    """A deployment was created or changed."""

    actor: str
    name: str
    spec: DeploymentSpec
    expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRemoved:
    """An object was deleted. `kind` is the resource kind, like "Cluster"."""

    actor: str
    kind: str
    name: str
    expected: int | None = None


# ------------------------------------------------------------ events: from agents and routers


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConnected:
    """An agent opened its stream; `generation` is that of the certificate it showed."""

    cluster: str
    instance: str
    generation: int
    engine: EngineKind
    url: str
    connectivity: Connectivity = Connectivity.DIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReported:
    """An agent's report arrived."""

    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDisconnected:
    """An agent's stream ended."""

    cluster: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConnected:
    """A router opened its stream; `generation` is that of the certificate it showed."""

    name: str
    instance: str
    generation: int
    url: str
    reverse_address: str
    location: Location | None
    software_version: str
    snapshot_version: int
    allow_anonymous: bool = False  # it serves requests without a key


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterAnswered:
    """A router applied (ACK) or refused (NACK, with a reason) a snapshot."""

    name: str
    instance: str
    snapshot_version: int
    rejection: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterReported:
    """A router told how it sees the clusters."""

    name: str
    instance: str
    requests_total: int
    errors_total: int
    clusters: Mapping[str, ClusterSeen] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)  # requests that wait for a model


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterDisconnected:
    """A router's stream ended."""

    name: str
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    """The moment that a WakeAt asked for has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The control plane started with what its store remembers."""


Event = (
    RegionApplied
    | ClusterRegistered
    | ClusterApplied
    | ClusterSchedulingChanged
    | ModelApplied
    | ModelVersionPushed
    | AliasMoved
    | DeploymentApplied
    | RolloutApplied
    | RolloutSteered
    | RolloutUndone
    | PrefetchApplied
    | ObjectRemoved
    | RouterRegistered
    | PeerJoined
    | PeerAccepted
    | PeerRevoked
    | RootPrepared
    | TenantApplied
    | KeyCreated
    | AccessDenied
    | StoreCollected
    | VersionVerified
    | AgentConnected
    | AgentReported
    | AgentDisconnected
    | RouterConnected
    | RouterAnswered
    | RouterReported
    | RouterCounted
    | RouterDisconnected
    | TimePassed
    | Started
)

# ------------------------------------------------------------ commands
# `revision` of Put, Delete and Touch is what watchers see as the resource version of the change;
# 0 = housekeeping, of which watchers are not told.


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Write a record to the store. `kind` names its table: "Region", "Cluster", ..., "Receipt"."""

    kind: str
    name: str
    record: Any
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete a record from the store."""

    kind: str
    name: str
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """Tell watchers that the view of an object changed, without a write (status of live things)."""

    kind: str
    name: str
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Send a cluster its desired state."""

    assignment: Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAgent:
    """End the streams of a cluster whose epoch is at most `epoch`."""

    cluster: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSnapshot:
    """What routers must know changed: build a snapshot and send it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Send TimePassed at this moment or soon after; the earliest wish counts."""

    at: datetime


Command = (
    Put
    | Delete
    | AppendAudit
    | Touch
    | Assign
    | CloseAgent
    | CloseRouter
    | PublishSnapshot
    | PublishTrust
    | PublishRouters
    | WakeAt
)


# ------------------------------------------------------------ results


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The answer to what people ask for: which object it was about.

    `version` and `digest` are set for a pushed model version (`created` False = the same content
    was there already) and `version` for a moved alias.
    """

    kind: str
    name: str
    created: bool = False
    version: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcomed:
    """The answer to AgentConnected."""

    epoch: int
    lease_seconds: int
    allow_code: bool
    assignment: Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """A caller's key for one unsafe request, and the fingerprint (hash) of that request."""

    key: str
    fingerprint: str


Result = Applied | Welcomed | Joined | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What `decide` returns: commands for the control loop, and the answer to the submitter.

    The result is Applied for people, Welcomed for AgentConnected, Joined for PeerJoined, and for
    reports and answers of agents and routers whether they were new enough to count (bool).
    """

    commands: tuple[Command, ...]
    result: Result
