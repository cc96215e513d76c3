"""Chunks out of packs: one range, decoded against its base, checked.

Input: digests, the catalog, the object store. Output: raw bytes that have that digest.
"""

import asyncio

from blake3 import blake3

from federation.artifacts.base import ObjectStore
from federation.artifacts.catalog import Catalog
from federation.artifacts.index import Spot
from federation.chunking.encoding import decode
from federation.contract.errors import Invalid, NotFound
from federation.contract.locations import RAW

# A base has no base of its own: who reads a chunk reads two at most (the intake sees to it).
MAX_CHAIN = 1
_INLINE_BYTES = 64 << 10  # below it, a change of threads costs more than the hash


class ChunkReader:
    """Reads single chunks."""

    def __init__(self, objects: ObjectStore, catalog: Catalog) -> None:
        self._objects = objects
        self._catalog = catalog

    def __repr__(self) -> str:
        return f"ChunkReader({self._catalog})"

    async def read(self, digest: bytes) -> bytes:
        """Return the raw bytes; raises NotFound, or Invalid if they are damaged."""
        try:
            return await self._read(digest)
        except NotFound:
            return await self._read(digest)  # it may have moved to another pack meanwhile

    async def _read(self, digest: bytes) -> bytes:
        chain = [digest]
        while base := self._catalog.base(chain[-1]):
            chain.append(base)
            if len(chain) > MAX_CHAIN + 1:
                raise Invalid(f"chunk {digest.hex()} is encoded against too long a chain.")
        raw = b""
        for member in reversed(chain):
            spot = self._catalog.spot(member)
            stored = await self.stored(spot)
            raw = await checked(member, spot.length, spot.code, stored, raw)
        return raw

    async def stored(self, spot: Spot) -> bytes:
        """Return the bytes that lie at a place, unchecked; raises NotFound."""
        key = pack_key(self._catalog.packs[spot.pack].id)
        blocks = [b async for b in self._objects.read(key, spot.offset, spot.stored)]
        return b"".join(blocks)


def pack_key(pack_id: str) -> str:
    """Return the key of a pack's object; that of its index ends with `.index`."""
    return f"packs/{pack_id}"


async def checked(digest: bytes, length: int, code: int, stored: bytes, base: bytes) -> bytes:
    """Return the raw bytes of a chunk; raises Invalid if they are not what they should be."""
    if code == RAW and len(stored) <= _INLINE_BYTES:
        return check(digest, length, code, stored, base)
    return await asyncio.to_thread(check, digest, length, code, stored, base)


def check(digest: bytes, length: int, code: int, stored: bytes, base: bytes) -> bytes:
    """Do what `checked` does, in this thread."""
    raw = decode(stored, code, length, base)
    if blake3(raw).digest() != digest:
        raise Invalid(
            f"the bytes of chunk {digest.hex()} are not what its digest says.",
            hint="They were damaged, or the file changed while it was read: push it again.",
        )
    return raw
