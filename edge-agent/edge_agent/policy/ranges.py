"""Which bytes to ask a source for: runs of whole chunks that lie side by side.

Input: where each missing chunk lies. Output: runs, each for one worker thread.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from federation.contract.errors import Invalid
from federation.contract.locations import RAW, WITH_BASE, Place


@dataclass(frozen=True, slots=True)
class Part:
    """A chunk that is to be fetched: `number` in its package, BLAKE3 and length of its raw bytes;
    where it lies, in which object and how; and the digest of its base (b"" = none)."""

    number: int
    digest: bytes
    length: int
    place: Place
    base: bytes = b""

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.place.offset + self.place.stored


def check_part(part: Part) -> Part:
    """Return the part if it can be such a chunk: nothing is stored that is longer than its raw
    bytes; raises Invalid."""
    place = part.place
    fits = place.stored == part.length if place.code == RAW else 0 < place.stored <= part.length
    if not fits or bool(place.code & WITH_BASE) != bool(part.base):
        raise Invalid(
            f"the locations say that a chunk of {part.length} bytes is stored in {place.stored}, "
            f"in the way {place.code}{' with' if part.base else ' without'} a base: that cannot be."
        )
    return part


def runs_of(parts: Iterable[Part], limit: int) -> list[tuple[Part, ...]]:
    """Cut parts into runs without gaps, each in one object and of up to `limit` stored bytes or
    one part. A part that lies where another one ends begins no new run; equal ones do."""
    ordered = sorted(parts, key=lambda part: (part.place.pack, part.place.offset, part.number))
    runs: list[list[Part]] = []
    for part in ordered:
        last = runs[-1] if runs else None
        if last is None or not _continues(last, part, limit):
            runs.append([part])
        else:
            last.append(part)
    return [tuple(run) for run in runs]


def _continues(run: list[Part], part: Part, limit: int) -> bool:
    first, last = run[0], run[-1]
    adjacent = last.place.pack == part.place.pack and last.end == part.place.offset
    return adjacent and part.end - first.place.offset <= limit
