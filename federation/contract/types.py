"""The words of the federation as immutable values.

Input: none; every other module builds these. Output: values that travel between the control plane,
the edge agents and the routers. Standard library only, so that deciders may use them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from federation.contract.access import Access
from federation.contract.capacity import Calibration, Capacity, Resources
from federation.contract.device_use import UseColumns
from federation.contract.rollout import CanaryRoute, GoldenResult, Losses
from federation.contract.sync import Disk, SyncProgress


class EngineKind(StrEnum):
    """What serves the models of a cluster."""

    TRITON = "triton"
    RAY_SERVE = "ray-serve"
    STATIC = "static"  # an engine that someone else runs; the agent only looks at it
    UNKNOWN = "unknown"  # a kind that a newer peer knows and we don't


class Runtime(StrEnum):
    """How a model package is executed."""

    ONNX = "onnx"
    PYTHON = "python"
    TRITON = "triton"
    RAY_SERVE = "ray-serve"
    UNKNOWN = "unknown"


class ModelProtocol(StrEnum):
    """What clients say to a model: V2 tensors, or text (generate and the OpenAI paths as well)."""

    TENSOR = "tensor"
    TEXT = "text"
    UNKNOWN = "unknown"


class VersionState(StrEnum):
    """How far one model version has come at one cluster."""

    PENDING = "pending"  # assigned; its bytes are not all on the cluster's disk
    STAGED = "staged"  # all bytes are on disk, not yet checked
    VERIFIED = "verified"  # every byte matches the manifest
    LOADED = "loaded"  # the engine says it is loaded
    WARMED = "warmed"  # it answered a real warm-up inference; may receive traffic
    DRAINING = "draining"  # no longer wanted; requests in flight end first
    CACHED = "cached"  # unloaded, its bytes stay on disk
    FAILED = "failed"  # the last attempt failed; the reason says why
    UNKNOWN = "unknown"


class Urgency(IntEnum):
    """Which transfer goes first; a lower number waits for a higher one."""

    PREFETCH = 0  # staged ahead of its use
    NORMAL = 1  # a new version
    ROLLBACK = 2  # a version that served before: something is wrong with its successor


class Connectivity(StrEnum):
    """How routers reach a cluster's gateway."""

    DIAL = "dial"  # they dial its URL
    REVERSE = "reverse"  # its agent dials them, and both switch roles on the connection
    UNKNOWN = "unknown"


class Scheduling(StrEnum):
    """Whether a cluster may be given traffic and models."""

    ACTIVE = "active"  # receives traffic and new models
    CORDONED = "cordoned"  # keeps its traffic, receives no new models
    DRAINING = "draining"  # receives neither; what it has loaded stays loaded
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A point on Earth, in degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignedVersion:
    """One model version that a cluster shall have. `digest` is the manifest's (BLAKE3, hex).

    `stage_only`: its bytes shall lie ready there, verified, and it is not loaded. Of two versions
    that are being fetched, the one of the lower `urgency` waits. `needs` is what each replica was
    given room for. `max_replicas`: the engine's own autoscaler decides, from `replicas` on. A
    version without load that may go to no replica is `stage_only` with 0 `replicas`: it sleeps. Its
    golden inputs are asked before it serves, and `golden_every_s` again; 0 = once is enough.
    """

    model: str
    version: int
    digest: str
    replicas: int = 1
    max_replicas: int = 0  # 0 = exactly `replicas`
    stage_only: bool = False
    urgency: Urgency = Urgency.NORMAL
    needs: Resources = field(default_factory=Resources)
    golden_every_s: int = 0

    @property
    def asleep(self) -> bool:
        """Whether it only lies ready because nobody uses it."""
        return self.stage_only and not self.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The desired state of one cluster; a higher generation replaces a lower one whole."""

    cluster: str
    generation: int
    versions: tuple[AssignedVersion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedVersion:
    """One model version as it stands at a cluster.

    `queued` requests wait inside the engine; None where nothing tells. `rate` is how many requests
    a second ended lately, `latency_ms` their median; 0 = there were none.
    """

    model: str
    version: int
    digest: str
    state: VersionState
    reason: str = ""  # in words; set when state is FAILED or a step is slow
    replicas: int = 0
    in_flight: int = 0
    queued: int | None = None
    rate: float = 0.0
    latency_ms: float = 0.0
    calibration: Calibration | None = None  # None = not measured (yet)
    protocol: ModelProtocol = ModelProtocol.TENSOR
    sync: SyncProgress | None = None  # of its transfer; None = nothing was fetched in this run
    golden: GoldenResult | None = None  # None = its package has no golden inputs, or not asked yet
    losses: Losses | None = None  # None = it was not lost


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """The serving engine of a cluster as its agent sees it."""

    kind: EngineKind
    version: str = ""
    ready: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The actual state of one cluster; `observed_generation` joins it to an Assignment."""

    observed_generation: int
    engine: EngineStatus
    versions: tuple[ObservedVersion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an agent sends up. The newest `(epoch, sequence)` wins; an older one changes nothing.

    At the control plane the devices of its capacity are at rest; `use` tells what they do.
    """

    cluster: str
    epoch: int
    sequence: int
    capacity: Capacity
    observed: Observed
    disk: Disk = field(default_factory=Disk)
    url: str = ""  # where routers reach this cluster's gateway, e.g. "http://10.0.0.5:8000"
    use: UseColumns = field(default_factory=UseColumns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Permission to count as present; `epoch` fences an agent that was replaced."""

    cluster: str
    epoch: int
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a model package; `path` is relative, with forward slashes.

    `chunks` are the file's chunks from first to last, 36 bytes each (see `contract.manifest`).
    """

    path: str
    size: int
    blake3: str
    sha256: str
    chunks: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All files of one package, ordered by path. Its digest identifies the content.

    `chunker` tells which rules cut the files: for people, and for the next push.
    """

    model: str
    files: tuple[FileEntry, ...]
    chunker: str = ""

    @property
    def size(self) -> int:
        """Sum of the file sizes in bytes."""
        return sum(entry.size for entry in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRoute:
    """What a router must know of a model to choose a version and stay inside its residency."""

    name: str
    default_version: int
    protocol: ModelProtocol = ModelProtocol.TENSOR
    aliases: Mapping[str, int] = field(default_factory=dict)
    residency: tuple[str, ...] = ()  # regions a request may be served in; empty = anywhere
    dormant: tuple[int, ...] = ()  # versions that are loaded nowhere, and come when asked for
    canary: CanaryRoute | None = None  # takes a share of what names no version


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A cluster's gateway: where requests can go. `present` is False after its lease ended.

    `url` is empty where the connections are reversed.
    """

    cluster: str
    region: str
    url: str
    location: Location | None = None
    present: bool = True
    connectivity: Connectivity = Connectivity.DIAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A warm model version at a cluster.

    After its warm-up it did `concurrency` requests at once best, in `latency_ms` each; 0 = nobody
    measured it.
    """

    model: str
    version: int
    cluster: str
    concurrency: int = 0
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSite:
    """A router that is in contact with the control plane, and where clients reach it."""

    name: str
    url: str
    location: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a router needs, whole and consistent; a higher version replaces a lower one."""

    version: int
    models: tuple[ModelRoute, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    replicas: tuple[Replica, ...] = ()
    access: Access = field(default_factory=Access)
    routers: tuple[RouterSite, ...] = ()

    def problems(self) -> tuple[str, ...]:
        """Return what makes this snapshot inconsistent, in words; empty when it is sound."""
        clusters = {endpoint.cluster for endpoint in self.endpoints}
        models = {model.name for model in self.models}
        found = [
            f"replica of unknown model {r.model!r}" for r in self.replicas if r.model not in models
        ]
        found += [
            f"replica of {r.model!r} at unknown cluster {r.cluster!r}"
            for r in self.replicas
            if r.cluster not in clusters
        ]
        if len(clusters) != len(self.endpoints):
            found.append("two endpoints of one cluster")
        if len(models) != len(self.models):
            found.append("two routes of one model")
        return tuple(found)
