"""The artifact store: chunks in packs, manifests and releases, on any ObjectStore.

Input: uploads, documents, digests. Output: places, bytes, what is missing. One process owns the
store: the catalog in its memory is rebuilt at start from the indexes beside the packs.

    packs/<id>          stored chunks back to back, at most 64 MiB; id = BLAKE3 of these bytes
    packs/<id>.index    what is in it (`artifacts.index`); written after the pack
    manifests/<digest>, releases/<digest>
    touches             which packs were relied on when, see `artifacts.touches`
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from federation.artifacts.base import Collected, Damage, ObjectInfo, ObjectStore, Upload
from federation.artifacts.catalog import Catalog, Pack
from federation.artifacts.chunk_reader import ChunkReader, pack_key
from federation.artifacts.collect import Collector
from federation.artifacts.documents import Documents
from federation.artifacts.index import Record, decode_index
from federation.artifacts.intake import Intake, PackUpload
from federation.artifacts.touches import Touches
from federation.artifacts.verify import Verifier
from federation.contract.errors import Invalid
from federation.contract.locations import Locations, PackSource, Place, pack_places
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)
_INDEXES_AT_ONCE = 32
_DIGESTS_AT_ONCE = 5_000  # between them others get their turn


class PackStore:
    """An ArtifactStore on any ObjectStore; made by `open`."""

    def __init__(self, objects: ObjectStore, catalog: Catalog, touches: Touches, clock: Clock):
        self._objects = objects
        self._catalog = catalog
        self._touches = touches
        self._reader = ChunkReader(objects, catalog)
        self._intake = Intake(objects, catalog, clock)
        self._documents = Documents(objects, catalog.changing, clock)
        self._sweeping = asyncio.Lock()  # one collection or verification at a time
        self._collector = Collector(objects, catalog, self._documents, self._intake, self._reader)
        self._verifier = Verifier(objects, catalog, self._documents, self._reader)

    def __repr__(self) -> str:
        return f"PackStore({self._objects}, {self._catalog})"

    @classmethod
    async def open(cls, objects: ObjectStore, *, clock: Clock) -> "PackStore":
        """Read all indexes of the store; raises Unavailable."""
        catalog = Catalog()
        touches = Touches(objects, catalog, clock)
        await _load(objects, catalog, await touches.load())
        return cls(objects, catalog, touches, clock)

    async def missing(self, digests: Sequence[bytes]) -> list[bool]:
        """Tell which chunks have to be uploaded; see ArtifactStore."""
        answer: list[bool] = []
        relied_on: set[int] = set()
        for start in range(0, len(digests), _DIGESTS_AT_ONCE):
            found = [self._catalog.packs_of(_digest(d)) for d in digests[start:][:_DIGESTS_AT_ONCE]]
            packs = set[int]().union(*found)
            self._touches.touch(packs)
            relied_on |= packs
            answer += [not one for one in found]
            await asyncio.sleep(0)
        await self._touches.note(relied_on)
        return answer

    async def lengths(self, digests: Sequence[bytes]) -> list[int]:
        """Return the lengths of chunks, 0 = missing; see ArtifactStore."""
        answer: list[int] = []
        for start in range(0, len(digests), _DIGESTS_AT_ONCE):
            spots = [self._catalog.find(_digest(d)) for d in digests[start:][:_DIGESTS_AT_ONCE]]
            answer += [0 if spot is None else spot.length for spot in spots]
            await asyncio.sleep(0)
        return answer

    def upload(self) -> Upload:
        """Begin to take chunks in; see ArtifactStore."""
        return PackUpload(self._intake, self._catalog, self._reader, self._touches)

    async def locate(self, digests: Iterable[bytes], *, url_lifetime: timedelta) -> Locations:
        """Return the places of chunks, in order; see ArtifactStore."""
        numbers: dict[int, int] = {}  # the catalog's number of a pack to the answer's
        places: list[Place] = []
        bases: dict[int, str] = {}
        base_places: list[Place] = []

        def place(digest: bytes) -> Place:
            spot = self._catalog.spot(digest)
            if spot.pack not in numbers:
                self._touches.touch((spot.pack,))
            number = numbers.setdefault(spot.pack, len(numbers))
            return Place(number, spot.offset, spot.stored, spot.code)

        for count, digest in enumerate(digests):
            places.append(place(_digest(digest)))
            if base := self._catalog.base(digest):
                bases[count] = base.hex()
                base_places.append(place(base))
            if count % _DIGESTS_AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._touches.note(numbers)
        packs = [self._catalog.packs[number].id for number in numbers]
        return Locations(
            packs=tuple([await self._source(pack, url_lifetime) for pack in packs]),
            places=pack_places(places),
            bases=bases,
            base_places=pack_places(base_places),
            good_for_s=url_lifetime.total_seconds(),
        )

    async def _source(self, pack: str, lifetime: timedelta) -> PackSource:
        url = await self._objects.signed_url(pack_key(pack), lifetime)
        return PackSource(id=pack, url=url or f"/api/v1/packs/{pack}")

    async def read_chunk(self, digest: bytes) -> bytes:
        """Return the raw, checked bytes of a chunk; see ArtifactStore."""
        return await self._reader.read(_digest(digest))

    async def pack_size(self, pack: str) -> int:
        """Return the length of a pack; see ArtifactStore."""
        return self._catalog.pack(pack).size

    def read_pack(self, pack: str, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield bytes of a pack; see ArtifactStore."""
        return self._objects.read(pack_key(self._catalog.pack(pack).id), start, length)

    async def put_document(self, kind: str, digest: str, data: bytes) -> None:
        """Keep a document; see ArtifactStore."""
        await self._documents.put(kind, digest, data)

    async def document(self, kind: str, digest: str) -> bytes:
        """Return a document; see ArtifactStore."""
        return await self._documents.get(kind, digest)

    async def collect(
        self, live: Collection[str], *, now: datetime, grace: timedelta, dry_run: bool = False
    ) -> Collected:
        """Remove what nobody needs; see ArtifactStore."""
        async with self._sweeping:
            return await self._collector.collect(live, now=now, grace=grace, dry_run=dry_run)

    async def verify(self, digests: Collection[str]) -> list[Damage]:
        """Read and check everything of these manifests; see ArtifactStore."""
        async with self._sweeping:
            return await self._verifier.verify(digests)


def _digest(digest: bytes) -> bytes:
    if len(digest) != 32:
        raise Invalid(f"a digest of a chunk has 32 bytes; this one has {len(digest)}.")
    return digest


async def _load(objects: ObjectStore, catalog: Catalog, noted: dict[str, int]) -> None:
    """Fill the catalog from the indexes, several at once.

    Newest first: where two packs hold a chunk, the younger one was made to replace the older.
    """
    listed = {info.key: info async for info in objects.list("packs/")}
    found = [info for key, info in listed.items() if "." not in key and f"{key}.index" in listed]
    found.sort(key=lambda info: info.modified_at, reverse=True)
    for start in range(0, len(found), _INDEXES_AT_ONCE):
        some = found[start : start + _INDEXES_AT_ONCE]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_read_index(objects, info)) for info in some]
        for info, task in zip(some, tasks, strict=True):
            if (records := task.result()) is not None:
                catalog.add(_pack(info, noted), records)
    catalog.forget_leaning()


def _pack(info: ObjectInfo, noted: dict[str, int]) -> Pack:
    name = info.key.rpartition("/")[2]
    touched = info.modified_at
    if name in noted:
        touched = max(touched, datetime.fromtimestamp(noted[name], UTC))
    return Pack(
        name, info.size, info.modified_at, touched_at=touched, noted_at=touched, recalled=True
    )


async def _read_index(objects: ObjectStore, info: ObjectInfo) -> list[Record] | None:
    try:
        data = b"".join([block async for block in objects.read(f"{info.key}.index")])
        records = decode_index(data)
    except Invalid:
        records = []
    if records and max(r.offset + r.stored for r in records) <= info.size:
        return records
    log.error("the index of %s is damaged: its chunks are missing until they are pushed", info.key)
    return None
