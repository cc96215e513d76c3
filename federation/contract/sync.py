"""What the control plane tells agents about moving model bytes, and what they tell it.

Input: specs of clusters, what agents measure. Output: values that travel on the agents' streams.
Standard library only, so that deciders may use them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Day(StrEnum):
    """A day of the week."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncWindow:
    """A span of the day in which models may be fetched over the wide-area link.

    `start` and `end` are wall-clock times, "HH:MM", in the time zone of its `SyncSpec`. A window
    whose end is not after its start goes on into the next day; `days` (empty = all) are those on
    which it begins. `max_mbytes_per_second` replaces the cluster's cap inside of it; 0 = keeps it.
    """

    start: str
    end: str
    days: tuple[Day, ...] = ()
    max_mbytes_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSpec:
    """How a cluster fetches models; it is what an operator writes, and what its agent is told.

    `max_mbytes_per_second` (10^6 bytes; 0 = no cap) bounds what it takes from the origin, over all
    models; `peer_max_mbytes_per_second` what it takes from, and what it gives to, the other
    clusters of its region. Without `windows` it may fetch at any time. `disk_budget_gib` bounds
    what packages may occupy (0 = what the disk has). Rollbacks ignore windows unless
    `rollback_waits`.
    """

    max_mbytes_per_second: float = 0.0
    peer_max_mbytes_per_second: float = 0.0
    windows: tuple[SyncWindow, ...] = ()
    time_zone: str = "UTC"
    disk_budget_gib: float = 0.0
    rollback_waits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPeer:
    """A cluster of the same region that has, or is fetching, some packages (digests of manifests).

    `url` is that of its gateway.
    """

    cluster: str
    url: str
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncProgress:
    """How far the transfer of one version is. Bytes are those of the package, not of the wire.

    `reused` lay on this disk already; `from_origin` and `from_peers` came over the network, as many
    as were received. `waiting` says in words why nothing moves.
    """

    total_bytes: int = 0
    reused_bytes: int = 0
    from_origin_bytes: int = 0
    from_peers_bytes: int = 0
    done_bytes: int = 0  # present and verified, wherever they came from
    bytes_per_second: float = 0.0
    eta_s: float = 0.0  # 0 = done, or not known
    waiting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Where an agent keeps packages. `budget_bytes` 0 = no budget."""

    used_bytes: int = 0
    free_bytes: int = 0
    budget_bytes: int = 0
