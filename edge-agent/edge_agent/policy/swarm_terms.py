"""What a Swarm is told and tells: fetches, what becomes of them, limits, chance.

Input and output of `swarm`; no code of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

ORIGIN = ""  # as the source of a Fetch
_T = TypeVar("_T")


class Shuffler(Protocol):
    """Chance, handed in; `random.Random` is one."""

    def shuffle(self, x: list[int], /) -> None:
        """Put a list in another order."""
        ...

    def random(self) -> float:
        """Return a number from 0 to below 1."""
        ...

    def choice(self, seq: Sequence[_T], /) -> _T:
        """Return one of them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmLimits:
    """How much at once, and how patient.

    `from_origin` is for one cluster, `at_origin` for all owners of a region together: the fewer
    come side by side, the sooner the first is there to be passed on. With few left it is fewer.
    In the beginning nothing is asked of the origin for up to `greet_s`: the others are told first,
    and answer. After `hedge_s` of waiting somebody else is asked as well. A peer at which nothing
    moves for `stall_s` is disgraced. One that is busy is not asked again for `busy_s`, one that has
    not got a piece yet for `again_s`, one that does not even expect it for `refused_s`. What those
    refuse that should get it is fetched by one after the other, `turn_s` apart.
    """

    from_origin: int = 4
    at_origin: int = 16
    from_peers: int = 4
    per_peer: int = 2
    greet_s: float = 1.5
    settle_s: float = 3.0
    hedge_s: float = 3.0
    stall_s: float = 10.0
    disgrace_s: float = 30.0
    again_s: float = 0.5
    busy_s: float = 0.1
    refused_s: float = 2.0
    turn_s: float = 0.5
    origin_pause_s: float = 0.5  # after a failure; doubles up to 16 times


class Outcome(StrEnum):
    """What became of a fetch."""

    GOT = "got"
    NOT_YET = "not-yet"  # the peer is about to have it, or answers too many others
    REFUSED = "refused"  # the peer does not have this piece, and will not get it
    FAILED = "failed"  # no connection, broke off, stalled
    BAD = "bad"  # wrong bytes
    GIVEN_UP = "given-up"  # by us: somebody else was faster


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get this piece from that member, or from the origin."""

    piece: int
    source: str = ORIGIN
