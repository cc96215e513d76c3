"""What the store holds, in memory: packs, the places of chunks, and when packs were last needed.

Input: index objects read at start, packs sealed since, touches. Output: places; which packs may go.
No method awaits: what one checks still holds when it acts.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from federation.artifacts.index import ChunkIndex, Record, Spot
from federation.contract.errors import NotFound

# Touches are written down at most this often for each pack, so the record may be that much late.
TOUCH_STEP = timedelta(hours=1)
_TOUCHES_KEPT = timedelta(days=30)


@dataclass(slots=True)
class Pack:
    """A durable pack with its index.

    `touched_at` is when somebody last relied on it, `noted_at` the last such time that is written
    down. `recalled`: both are from that record, since this process began.
    """

    id: str
    size: int
    modified_at: datetime
    touched_at: datetime
    noted_at: datetime
    recalled: bool = False


class Catalog:
    """Packs by number (given by this process, never used twice) and chunks by digest."""

    def __init__(self) -> None:
        self.packs: dict[int, Pack] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0
        self._chunks = ChunkIndex()
        self._bases: dict[bytes, bytes] = {}
        self._leaning: Counter[bytes] = Counter()  # base to how many chunks are encoded against it
        self.changing = asyncio.Lock()  # held while objects of the store appear or vanish

    def __repr__(self) -> str:
        return f"Catalog({len(self.packs)} packs, {len(self._chunks)} chunks)"

    def __len__(self) -> int:
        return len(self._chunks)

    def add(self, pack: Pack, records: Iterable[Record], *, over: bool = False) -> int:
        """Take in a durable pack; return its number. Chunks that lie elsewhere already stay there,
        unless `over`: then this pack is where they lie from now on."""
        number = self._numbers.get(pack.id)
        if number is None:
            number, self._next = self._next, self._next + 1
            self._numbers[pack.id] = number
            self.packs[number] = pack
        else:
            old = self.packs[number]
            old.touched_at = max(old.touched_at, pack.touched_at)
        for r in records:
            if over or self._chunks.get(r.digest) is None:
                self._chunks.put(r.digest, Spot(number, r.offset, r.stored, r.length, r.code))
                self._lean(r.digest, r.base)
        return number

    def _lean(self, digest: bytes, base: bytes = b"") -> None:
        """Note what a chunk is encoded against, instead of what it was."""
        if old := self._bases.pop(digest, b""):
            self._leaning[old] -= 1
            if not self._leaning[old]:
                del self._leaning[old]
        if base:
            self._bases[digest] = base
            self._leaning[base] += 1

    def remove(self, number: int, records: Iterable[Record]) -> None:
        """Forget a pack and those of its chunks that lie nowhere else."""
        self.forget(number, (r.digest for r in records))
        del self._numbers[self.packs.pop(number).id]

    def forget(self, number: int, digests: Iterable[bytes]) -> None:
        """Make chunks missing, if it is in this pack that they lie, and with them what is encoded
        against them."""
        gone = set()
        for digest in digests:
            spot = self._chunks.get(digest)
            if spot is not None and spot.pack == number:
                self._chunks.discard(digest)
                self._lean(digest)
                gone.add(digest)
        if any(digest in self._leaning for digest in gone):
            self.forget_leaning()

    def forget_leaning(self) -> None:
        """Make chunks missing whose base is: nobody can read them. To be called when all packs
        are in."""
        for digest in [d for d, base in self._bases.items() if self._chunks.get(base) is None]:
            self._chunks.discard(digest)
            self._lean(digest)

    def find(self, digest: bytes) -> Spot | None:
        """Return where a chunk lies."""
        return self._chunks.get(digest)

    def spot(self, digest: bytes) -> Spot:
        """Return where a chunk lies; raises NotFound."""
        spot = self._chunks.get(digest)
        if spot is None:
            raise NotFound(
                f"the store has no chunk {digest.hex()}.", hint="Push the model again to upload it."
            )
        return spot

    def base(self, digest: bytes) -> bytes:
        """Return the digest of the chunk that this one was encoded against, or nothing."""
        return self._bases.get(digest, b"")

    def packs_of(self, digest: bytes) -> set[int]:
        """Return the packs that are needed to read a chunk: its own, and that of its base; none if
        it is missing."""
        found = set()
        while digest and (spot := self._chunks.get(digest)) and spot.pack not in found:
            found.add(spot.pack)
            digest = self.base(digest)
        return found

    def pack(self, pack_id: str) -> Pack:
        """Return a pack by its id; raises NotFound."""
        number = self._numbers.get(pack_id)
        if number is None:
            raise NotFound(f"the store has no pack {pack_id[:80]}.", hint="Ask where it lies now.")
        return self.packs[number]

    def number(self, pack_id: str) -> int | None:
        """Return the number of a pack, or None if it is not there."""
        return self._numbers.get(pack_id)

    def touch(self, numbers: Iterable[int], now: datetime) -> None:
        """Note that somebody relies on packs."""
        for number in numbers:
            pack = self.packs[number]
            pack.touched_at = max(pack.touched_at, now)

    def unnoted(self, numbers: Iterable[int]) -> bool:
        """Tell whether touches of these packs must be written down."""
        packs = (self.packs[n] for n in numbers if n in self.packs)
        return any(p.touched_at > max(p.noted_at, p.modified_at) + TOUCH_STEP for p in packs)

    def needed_since(self, number: int, moment: datetime, *, grace: timedelta) -> bool:
        """Tell whether a pack was made or touched after a moment, or may have been."""
        pack = self.packs[number]
        late = min(TOUCH_STEP, grace) if pack.recalled else timedelta()
        return max(pack.modified_at, pack.touched_at) + late > moment

    def touches(self, now: datetime) -> dict[str, int]:
        """Return what is to be written down: pack to Unix seconds."""
        oldest = now - _TOUCHES_KEPT
        return {
            p.id: int(p.touched_at.timestamp())
            for p in self.packs.values()
            if p.touched_at > max(p.modified_at, oldest)
        }

    def noted(self, touches: Mapping[str, int]) -> None:
        """Note that these touches are written down."""
        for pack_id, seconds in touches.items():
            number = self._numbers.get(pack_id)
            if number is not None:
                self.packs[number].noted_at = datetime.fromtimestamp(seconds, UTC)
