"""The mark phase of a collection: how much of each pack is used.

Input: manifests that are live. Output: the bytes, and on request the offsets, in use by pack.
"""

import asyncio
from array import array
from collections.abc import Collection

from federation.artifacts.catalog import Catalog
from federation.artifacts.documents import Documents
from federation.artifacts.index import Spot
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.manifest import chunks_of, parse_manifest

_CHUNKS_AT_ONCE = 2_000  # between them others get their turn
_FEW = 1024


class Marks:
    """Places in use, 8 bytes each for every time that it is used in a few manifests."""

    def __init__(self) -> None:
        self._used: dict[int, array[int]] = {}

    def __repr__(self) -> str:
        return f"Marks({len(self._used)} packs)"

    def add(self, spot: Spot) -> None:
        """Mark a place."""
        used = self._used.setdefault(spot.pack, array("Q"))
        used.append(spot.offset << 32 | spot.stored)
        if len(used) > _FEW and len(used) & (len(used) - 1) == 0:
            self._used[spot.pack] = array("Q", set(used))

    def bytes_used(self, pack: int) -> int:
        """Return how many bytes of a pack are in use."""
        return sum(place & 0xFFFFFFFF for place in set(self._used.get(pack, ())))

    def offsets(self, pack: int) -> set[int]:
        """Return where the chunks in use begin."""
        return {place >> 32 for place in self._used.get(pack, ())}


async def mark(live: Collection[str], documents: Documents, catalog: Catalog) -> Marks:
    """Mark what the manifests use, and what that is encoded against. Raises Conflict if a manifest
    cannot be read: then nobody knows what it uses."""
    marks, count = Marks(), 0
    for digest in live:
        try:
            manifest = await asyncio.to_thread(
                parse_manifest, await documents.get("manifest", digest)
            )
        except (NotFound, Invalid) as error:
            raise Conflict(
                f"nothing was removed: the manifest {digest} of a version is missing or damaged "
                f"({error.message})",
                hint="Push that version again, or remove it.",
            ) from None
        for entry in manifest.files:
            for chunk in chunks_of(entry):
                _mark(chunk.digest, marks, catalog)
                count += 1
                if count % _CHUNKS_AT_ONCE == 0:
                    await asyncio.sleep(0)
    return marks


def _mark(digest: bytes, marks: Marks, catalog: Catalog) -> None:
    while digest and (spot := catalog.find(digest)):
        marks.add(spot)
        digest = catalog.base(digest)
