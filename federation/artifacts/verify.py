"""Verifying packages: every document and every chunk of them is read and checked.

Input: digests of manifests. Output: what is damaged, in words. A damaged chunk counts as missing
from then on, also after a restart, so that the next push of its model sends it again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator

from blake3 import blake3

from federation.artifacts.base import Damage, ObjectStore
from federation.artifacts.catalog import Catalog
from federation.artifacts.chunk_reader import ChunkReader, pack_key
from federation.artifacts.documents import Documents, document_key
from federation.artifacts.index import decode_index, encode_index
from federation.contract.errors import Invalid, NotFound
from federation.contract.manifest import chunks_of, parse_manifest
from federation.contract.release import parse_envelope, release_of
from federation.contract.types import Manifest

_READS_AT_ONCE = 8


class Verifier:
    """Checks what lies in a store."""

    def __init__(
        self, objects: ObjectStore, catalog: Catalog, documents: Documents, reader: ChunkReader
    ) -> None:
        self._objects = objects
        self._catalog = catalog
        self._documents = documents
        self._reader = reader

    def __repr__(self) -> str:
        return f"Verifier({self._catalog})"

    async def verify(self, digests: Collection[str]) -> list[Damage]:
        """Return what is damaged; see ArtifactStore."""
        found: list[Damage] = []
        damaged: dict[int, set[bytes]] = defaultdict(set)
        checked: set[bytes] = set()
        for digest in digests:
            manifest = await self._manifest(digest, found)
            if manifest is None:
                continue
            await self._release(digest, found)
            chunks = (c.digest for entry in manifest.files for c in chunks_of(entry))
            for group in _groups(chunks, checked):
                async with asyncio.TaskGroup() as tasks:
                    for chunk in group:
                        tasks.create_task(self._chunk(digest, chunk, found, damaged))
        for number, chunks_lost in damaged.items():
            await self._give_up(number, chunks_lost)
        return found

    async def _manifest(self, digest: str, found: list[Damage]) -> Manifest | None:
        key = document_key("manifest", digest)
        try:
            data = await self._documents.get("manifest", digest)
            if blake3(data).hexdigest() != digest:
                found.append(Damage(key=key, problem="its digest is another one"))
                return None
            return await asyncio.to_thread(parse_manifest, data)
        except (NotFound, Invalid) as error:
            found.append(Damage(key=key, problem=error.message))
            return None

    async def _release(self, digest: str, found: list[Damage]) -> None:
        """Check that a release speaks of this manifest. Signatures are the reader's to judge."""
        key = document_key("release", digest)
        try:
            release = release_of(parse_envelope(await self._documents.get("release", digest)))
        except NotFound:
            return  # packages need none before they are a version
        except Invalid as error:
            found.append(Damage(key=key, problem=error.message))
            return
        if release.manifest != digest:
            found.append(Damage(key=key, problem=f"it is of package {release.manifest[:80]}"))

    async def _chunk(
        self, manifest: str, digest: bytes, found: list[Damage], damaged: dict[int, set[bytes]]
    ) -> None:
        spot = self._catalog.find(digest)
        if spot is None:
            key = document_key("manifest", manifest)
            found.append(Damage(key=key, problem=f"its chunk {digest.hex()} is missing"))
            return
        key = pack_key(self._catalog.packs[spot.pack].id)
        try:
            await self._reader.read(digest)
        except (NotFound, Invalid) as error:
            found.append(Damage(key=key, problem=f"at {spot.offset}: {error.message}"))
            damaged[spot.pack].add(digest)
            if base := self._catalog.base(digest):  # which of the two is damaged?
                await self._chunk(manifest, base, found, damaged)

    async def _give_up(self, number: int, digests: set[bytes]) -> None:
        """Take damaged chunks out of the catalog and of the pack's index.

        A pack in which nothing else is goes.
        """
        async with self._catalog.changing:
            if number not in self._catalog.packs:
                return
            pack = self._catalog.packs[number]
            key = f"{pack_key(pack.id)}.index"
            self._catalog.forget(number, digests)
            try:
                data = b"".join([block async for block in self._objects.read(key)])
                left = [r for r in decode_index(data) if r.digest not in digests]
            except (NotFound, Invalid):
                return
            if left:
                await self._objects.replace(key, encode_index(left))
                return
            self._catalog.remove(number, ())
            await self._objects.delete(key)
            await self._objects.delete(pack_key(pack.id))


def _groups(digests: Iterator[bytes], checked: set[bytes]) -> Iterator[list[bytes]]:
    """Yield the digests that were not checked yet, as many as are read at once."""
    group: list[bytes] = []
    for digest in digests:
        if digest not in checked:
            checked.add(digest)
            group.append(digest)
        if len(group) == _READS_AT_ONCE:
            yield group
            group = []
    yield group
