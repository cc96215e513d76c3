"""When a package on the disk is read again, to find bytes that rotted.

Input: the packages with the time of their last check, the time, how often. Output: the one to check
now, or how long nothing is due; the pause after each block that keeps to a rate.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.policy.eviction import Key

BYTES_PER_S = 4e6  # 100 GB take 7 hours; a disk that serves engines gives a hundred times as much
LOOK_S = 3600.0  # at least so often, for packages that came meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A package, and when every byte of it was last known to be right (Unix seconds)."""

    key: Key
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Check `key` now; None: look again in `wait_s`."""

    key: Key | None
    wait_s: float = 0.0


def next_due(packages: Iterable[Checked], now: float, every_s: float) -> Due:
    """Return the package whose check is the oldest, if it is older than `every_s`. A check in the
    future (the clock was set back) counts as one of now."""
    oldest = min(packages, key=lambda package: (package.at, package.key), default=None)
    if oldest is None:
        return Due(key=None, wait_s=min(every_s, LOOK_S))
    left_s = min(oldest.at, now) + every_s - now
    return Due(key=None, wait_s=min(left_s, LOOK_S)) if left_s > 0 else Due(key=oldest.key)


def pause_s(done_bytes: int, elapsed_s: float, bytes_per_s: float = BYTES_PER_S) -> float:
    """Return how long to wait before more is read, so that the rate since the beginning holds."""
    return max(0.0, done_bytes / bytes_per_s - elapsed_s)
