"""How a model moves from one version to the next, region by region, and what is counted on the way.

Input: what a model owner writes, what routers count, what agents find out. Output: values that
travel between the control plane, the routers and the agents. Standard library only, so that
deciders may use them.

The words are those of Argo Rollouts: the *stable* version serves, the *canary* is to replace it; a
*wave* is a set of clusters that move together, a *step* a share of their traffic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from federation.contract.sync import Day

USER_BUCKETS = 32  # clients are counted in so many groups, by a hash of their key


class OnInconclusive(StrEnum):
    """What happens when the longest bake is over and the analysis is not sure."""

    PAUSE = "pause"  # a person decides
    PROMOTE = "promote"  # it goes on, since nothing spoke against it


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Clusters that move together: those of `regions`, `clusters` by name, or chosen by labels.

    The region "*" means all clusters that no other wave names. A wave with `approval` waits for a
    person before it begins.
    """

    regions: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    cluster_labels: Mapping[str, str] = field(default_factory=dict)
    approval: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSpec:
    """What a canary may do worse than the stable version, in the same region at the same time.

    `max_error_rate` is a share of its requests, `max_p95_ratio` compares the 95th percentiles of
    latency (to the first byte, for streams), `max_wrong_inputs` is how many of the package's golden
    inputs may be answered wrongly. A region passes after at least `min_requests` of the canary and
    `min_bake_s`; after `max_bake_s` without a verdict `on_inconclusive` says what happens. Of the
    canary's answers `shadow_percent` are asked of the stable version as well, and compared; with
    `judge_shadow` they must not differ more than the stable version's own, by one percentage point.
    With `pool_small_regions` regions of a wave that are too small to pass alone may do so together.
    """

    enabled: bool = True
    max_error_rate: float = 0.01
    max_p95_ratio: float = 1.2
    max_wrong_inputs: int = 0
    min_requests: int = 100
    max_bake_s: float = 1200.0
    on_inconclusive: OnInconclusive = OnInconclusive.PAUSE
    shadow_percent: float = 0.0
    judge_shadow: bool = False
    pool_small_regions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStrategy:
    """How versions of a deployment are replaced.

    `waves` come one after the other (none = all clusters at once); in each the canary's share of
    traffic goes through `steps` (percent, rising, the last is 100), each for at least `bake_s`.
    `in_place`: where both versions do not fit, the stable one goes first, and capacity is missing
    until the canary is warm. `allow_signature_change`: inputs and outputs may differ.
    """

    waves: tuple[Wave, ...] = ()
    steps: tuple[float, ...] = (5.0, 25.0, 100.0)
    bake_s: float = 120.0
    analysis: AnalysisSpec = field(default_factory=AnalysisSpec)
    in_place: bool = False
    allow_signature_change: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """A rollout of one model to a version (a number, or an alias as it is when it starts)."""

    model: str
    version: int | str
    strategy: RolloutStrategy = field(default_factory=RolloutStrategy)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeWindow:
    """A span of the week in which no rollout begins a wave or a step in a region.

    `start` and `end` are wall-clock times, "HH:MM", in the region's time zone; see `SyncWindow`.
    """

    start: str
    end: str
    days: tuple[Day, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowAbove:
    """Answers that take longer, in ms, count as slow: one bound for each version."""

    stable_ms: float
    canary_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRoute:
    """A second version of a model that takes a share of its traffic, for routers.

    `weights` is that share by region, in percent; a region that is not named has none. `rollout` is
    the salt by which clients are spread: raising a weight never moves a client back. Of its answers
    `shadow_percent` are asked of the stable version as well, to be compared.
    """

    rollout: str
    version: int
    weights: Mapping[str, float] = field(default_factory=dict)
    slow: Mapping[str, SlowAbove] = field(default_factory=dict)
    shadow_percent: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCounts:
    """What one router saw of a version in one region since that router started.

    The first four are by user bucket (`USER_BUCKETS` long, or empty = all zero) and count attempts,
    by the version that they were sent to: `errors` failed, timed out or were answered 5xx,
    `refused` were answered 429 or 503, `slow` took longer than `CanaryRoute.slow`. `latency` counts
    answers below status 400 by index: i holds (2^(i/16), 2^((i+1)/16)] ms (scale 4 of
    OpenTelemetry's exponential histograms); to the first byte for streams, to the end for others.
    `disagreed` of `compared` shadow pairs had different answers. Two more columns tell of the draw
    between two versions: `undrawn` attempts were not drawn (the request named its version, or
    failed before), `diverted` ones were drawn for the canary, which could not be had there.
    """

    model: str
    version: int
    region: str
    requests: tuple[int, ...] = ()
    errors: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    slow: tuple[int, ...] = ()
    latency: Mapping[int, int] = field(default_factory=dict)
    compared: int = 0
    disagreed: int = 0
    undrawn: tuple[int, ...] = ()
    diverted: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenResult:
    """How a version answered the golden inputs of its package at a cluster, when asked last.

    `wrong` of `inputs` were answered wrongly at least twice in three; `words` tells of the first.
    """

    inputs: int
    wrong: int
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """How often a version stopped to be warm at a cluster without having been told to, since it was
    assigned there and its agent began; `words` tell why it did last."""

    times: int
    words: str = ""
