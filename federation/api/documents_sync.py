"""The shapes of what is told about disks, prefetches and transfers; a part of `documents`.

Input: none. Output: types whose schemas describe what `policy.cluster_view`, `policy.sync` show.
"""

from dataclasses import dataclass

from federation.contract.types import VersionState


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskView:
    """Where a cluster keeps packages. `room_bytes` is what they may take, all together; null = not
    known."""

    used_bytes: int
    free_bytes: int
    budget_bytes: int
    room_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedAt:
    """How far a prefetch is at one cluster."""

    cluster: str
    region: str
    state: VersionState
    ready: bool
    done_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStaged:
    """A selected cluster that cannot have the version, and why, in words."""

    cluster: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchStatus:
    """Where a prefetch stands: `ready_at` of `wanted` clusters have all bytes, verified."""

    digest: str
    size: int
    ready: bool
    reason: str
    ready_at: int
    wanted: int
    clusters: tuple[StagedAt, ...]
    cannot: tuple[NotStaged, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """How far one model version is at one cluster. Bytes are those of the package.

    `urgency` is empty for what is not assigned (any more); `waiting` says why nothing moves.
    """

    model: str
    version: int
    cluster: str
    region: str
    state: VersionState
    stage_only: bool
    urgency: str
    done_bytes: int
    total_bytes: int
    bytes_per_second: float
    eta_s: float
    from_origin_bytes: int
    from_peers_bytes: int
    reused_bytes: int
    waiting: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfers:
    """All transfers, ordered by model, version and cluster."""

    items: tuple[Transfer, ...]
