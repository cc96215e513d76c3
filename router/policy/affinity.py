"""Requests that had better be answered by the same cluster: of one session, or with one beginning.

Input: what requests have in common, as numbers. Output: the milliseconds that each owner is
believed to save, a term of the score: once it would take longer than that, others are chosen.
"""

from collections.abc import Sequence
from zlib import crc32

from router.policy.shortlist import Option

SHARE = 0.5  # of the service time is believed to be saved by who has seen it before
MOST_MS = 300.0
LEAST_MS = 1.0
_MASK, _ODD, _ODDER = 0xFFFFFFFFFFFFFFFF, 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
BLOCKS = (1024, 4096)  # bytes of a prompt that are compared: its beginning, and more of it


def keys(session: str, prompt: bytes) -> tuple[int, ...]:
    """Return what a request has in common with others: its session, or how its prompt begins.

    A prompt shorter than a block has nothing worth to be found again.
    """
    if session:
        return (crc32(session.encode()),)
    return tuple(crc32(prompt[:size]) for size in BLOCKS if len(prompt) >= size)


def bonuses(options: Sequence[Option], wanted: Sequence[int]) -> dict[Option, float]:
    """Return what the owners save, in ms. The owner of a key is the option with the highest mark,
    whichever others come or go (rendezvous hashing)."""
    found: dict[Option, float] = {}
    for key in wanted:
        highest, owner = -1, None
        for option in options:
            mark = ((option.seed ^ key) * _ODD) & _MASK  # an even mix of all bits, without calls
            mark = ((mark ^ (mark >> 29)) * _ODDER) & _MASK
            if mark > highest:
                highest, owner = mark, option
        if owner is not None:
            saved = min(owner.lane.service_ms * SHARE, MOST_MS) / len(wanted)
            found[owner] = found.get(owner, 0.0) + max(saved, LEAST_MS)
    return found
