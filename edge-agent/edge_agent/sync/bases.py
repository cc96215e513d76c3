"""The bases of chunks that are stored as differences: who lacks one cannot read the chunk.

Input: the chunks of one piece, an Offer. Output: the bytes of their bases that are on this disk,
and what must be fetched besides. A cluster that never had the old version fetches its chunks too,
one for each difference; a base has no base (`federation.contract.locations`).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_agent.sync.offers import Offer, WantedChunk


@dataclass(slots=True)
class Bases:
    """`held` has bytes by digest, of one piece at most; `lacking` must be fetched, then `put`."""

    held: dict[bytes, bytes] = field(default_factory=dict)
    lacking: tuple[WantedChunk, ...] = ()

    def put(self, number: int, data: memoryview) -> None:
        """Keep the verified bytes of a base that was lacking."""
        self.held[self.lacking[number].digest] = bytes(data)


async def bases_for(wanted: Sequence[WantedChunk], offer: Offer) -> Bases:
    """Return the bases of these chunks, as far as they are on this disk."""
    needed = {base: c.length for c in wanted if (base := offer.base_for(c.digest))}
    if not needed:
        return Bases()
    held = await asyncio.to_thread(_on_disk, tuple(needed), offer)
    absent = [base for base in needed if base not in held]
    return Bases(held, tuple(WantedChunk(n, base, needed[base]) for n, base in enumerate(absent)))


def _on_disk(digests: Sequence[bytes], offer: Offer) -> dict[bytes, bytes]:
    found = ((digest, offer.base_of(digest)) for digest in digests)
    return {digest: data for digest, data in found if data is not None}
