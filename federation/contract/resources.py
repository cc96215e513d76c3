"""The resources of the operator API: what a user writes in YAML and reads back.

Input: specs from the CLI or the API, as JSON or YAML. Output: specs that the control plane's
deciders take. Every document has apiVersion, kind, metadata, spec and status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from federation.contract.capacity import Resources
from federation.contract.rollout import FreezeWindow, RolloutSpec, RolloutStrategy
from federation.contract.scaling import Scaling
from federation.contract.sync import SyncSpec
from federation.contract.types import Connectivity, EngineKind, Location

API_VERSION = "federation/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSpec:
    """A named region: where on Earth it is, and when no rollout goes on there (in its
    `time_zone`, an IANA name)."""

    location: Location
    time_zone: str = "UTC"
    freeze: tuple[FreezeWindow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """A GPU cluster. `allow_code` lets packages that carry Python code load there; `connectivity`
    says who dials: routers the cluster, or (behind NAT) its agent the routers; `sync` says how it
    fetches models."""

    region: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allow_code: bool = False
    connectivity: Connectivity = Connectivity.DIAL
    sync: SyncSpec = field(default_factory=SyncSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSpec:
    """A router that may join the federation."""

    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSpec:
    """A user of the inference endpoint. Limits hold per router, over all its keys; 0 = none.

    `models` are shell patterns, empty = all. `residency` is a guarantee: its requests are served
    in these regions or not at all.
    """

    models: tuple[str, ...] = ()
    residency: tuple[str, ...] = ()
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_concurrent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model. `aliases` are movable names of immutable versions. `publishers` are the Ed25519
    public keys (hex) of which at least one must sign each version; empty = the federation's own
    signature is enough."""

    description: str = ""
    aliases: Mapping[str, int] = field(default_factory=dict)
    publishers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSpec:
    """A model owner's wish: which version of a model shall serve where.

    `version` (a number or an alias; 0 = the newest) answers requests that name no version;
    `pinned_versions` are served as well, for requests that name them. Clusters are chosen by region
    (`regions`, empty = all), labels, `engine` and `max_price_per_gpu_hour` (what their label
    `price-per-gpu-hour` says; 0 = any). Of these, it is served at `clusters` (0 = at all that can),
    with `spread` in as many regions as possible, and not where a model of `anti_affinity` is.
    `residency` is a guarantee, not a wish: no request is ever served outside these regions.
    `resources` replaces what the package asks for. `replicas` is how many each cluster has, unless
    `scaling` says otherwise. With a `rollout`, a change of the version goes through a rollout of
    that strategy; without one it happens everywhere at once.
    """

    model: str
    version: int | str = 0
    pinned_versions: tuple[int, ...] = ()
    regions: tuple[str, ...] = ()
    cluster_labels: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 1
    scaling: Scaling = field(default_factory=Scaling)
    resources: Resources | None = None
    residency: tuple[str, ...] = ()
    clusters: int = 0
    spread: bool = True
    anti_affinity: tuple[str, ...] = ()
    engine: EngineKind | None = None
    max_price_per_gpu_hour: float = 0.0
    rollout: RolloutStrategy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchSpec:
    """A wish that a version lies ready, verified and not loaded, at clusters chosen by region
    (`regions`, empty = all) and labels. A deployment that wants it there as well loads it."""

    model: str
    version: int
    regions: tuple[str, ...] = ()
    cluster_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource and the words that users may use for it."""

    name: str  # "Cluster"
    plural: str  # "clusters", also the path segment
    short: tuple[str, ...]  # "cl"
    spec: type | None  # None = read-only


KINDS: tuple[Kind, ...] = (
    Kind("Region", "regions", ("reg",), RegionSpec),
    Kind("Cluster", "clusters", ("cl",), ClusterSpec),
    Kind("Model", "models", ("mo",), ModelSpec),
    Kind("Deployment", "deployments", ("dep",), DeploymentSpec),
    Kind("Rollout", "rollouts", ("ro",), RolloutSpec),
    Kind("Prefetch", "prefetches", ("pf",), PrefetchSpec),
    Kind("Router", "routers", ("rt",), None),
    Kind("Tenant", "tenants", ("tn",), TenantSpec),
    Kind("Key", "keys", (), None),
    Kind("Event", "events", ("ev",), None),
)


def kind_of(word: str) -> Kind | None:
    """Return the kind that `word` (singular, plural or short, any case) means, or None."""
    wanted = word.lower()
    return next((k for k in KINDS if wanted in (k.name.lower(), k.plural, *k.short)), None)
