"""Collecting garbage: what no live manifest uses goes, packs that are mostly garbage are rewritten.

Input: the digests of the live manifests, the time, a time of grace. Output: fewer objects.

Safe beside pushes and fetches: nothing goes that was made, asked for (`missing`), sent again or
located within the grace, which must be longer than any signed URL and any push. Every removal looks
once more, with `changing` held, and takes the chunks out of the catalog before the first object is
deleted. Safe against kills: an index goes before its pack; a rewritten chunk is durable in its new
pack before the old one may go. Whatever is left half-done is garbage for the next collection.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from federation.artifacts.base import Collected, ObjectInfo, ObjectStore
from federation.artifacts.catalog import Catalog
from federation.artifacts.chunk_reader import ChunkReader, checked, pack_key
from federation.artifacts.documents import FOLDERS, Documents
from federation.artifacts.index import Record, decode_index
from federation.artifacts.intake import PACK_BYTES, Intake, OpenPack
from federation.artifacts.marks import Marks, mark
from federation.contract.errors import Invalid, NotFound
from federation.contract.locations import Frame

log = logging.getLogger(__name__)
_FOLDERS = ("packs", *FOLDERS.values())


@dataclass(frozen=True, slots=True)
class _Limit:
    """What was made or touched after `cutoff` stays."""

    cutoff: datetime
    grace: timedelta


@dataclass(slots=True)
class _Tally:
    removed: int = 0
    rewritten: int = 0
    documents: int = 0
    freed: int = 0


class Collector:
    """Runs one collection at a time."""

    def __init__(
        self,
        objects: ObjectStore,
        catalog: Catalog,
        documents: Documents,
        intake: Intake,
        reader: ChunkReader,
    ) -> None:
        self._objects = objects
        self._catalog = catalog
        self._changing = catalog.changing
        self._documents = documents
        self._intake = intake
        self._reader = reader

    def __repr__(self) -> str:
        return f"Collector({self._catalog})"

    async def collect(
        self, live: Collection[str], *, now: datetime, grace: timedelta, dry_run: bool
    ) -> Collected:
        """Do it, or tell what would be done; see ArtifactStore."""
        limit, tally = _Limit(now - grace, grace), _Tally()
        listed = {i.key: i for folder in _FOLDERS async for i in self._objects.list(f"{folder}/")}
        packs = len(self._catalog.packs)
        marks = await mark(live, self._documents, self._catalog)
        await self._rewrite_sparse(marks, limit, tally, dry_run=dry_run)
        await self._remove_unused(marks, limit, tally, dry_run=dry_run)
        await self._remove_strays(listed, limit, tally, dry_run=dry_run)
        await self._remove_documents(listed, set(live), limit, tally, dry_run=dry_run)
        return Collected(
            packs=packs,
            packs_removed=tally.removed,
            packs_rewritten=tally.rewritten,
            documents_removed=tally.documents,
            bytes_before=sum(info.size for info in listed.values()),
            bytes_freed=tally.freed,
        )

    # ---- packs of which less than half is used

    async def _rewrite_sparse(
        self, marks: Marks, limit: _Limit, tally: _Tally, *, dry_run: bool
    ) -> None:
        """Copy what is used of sparse packs into new ones. The old ones stay until nobody can be
        fetching from them any more."""
        new: OpenPack | None = None
        emptied: list[int] = []
        try:
            for number, pack in list(self._catalog.packs.items()):
                used = marks.bytes_used(number)
                if pack.modified_at > limit.cutoff or not 0 < used < pack.size / 2:
                    continue
                tally.rewritten += 1
                tally.freed -= used
                emptied.append(number)
                if dry_run:
                    continue
                if new is not None and new.size + used > PACK_BYTES:
                    await self._intake.publish(new, over=True)
                    new = None
                new = new or OpenPack(self._objects.writer())
                await self._copy(number, marks.offsets(number), new)
            if new is not None and new.records:
                await self._intake.publish(new, over=True)
                new = None
        finally:
            if new is not None:
                await new.writer.abort()
        for number in emptied:
            await self._remove_pack(number, marks, limit, tally, dry_run=dry_run)

    async def _copy(self, number: int, offsets: Collection[int], new: OpenPack) -> None:
        for r in await self._records(number) or ():
            spot = self._catalog.find(r.digest)
            if r.offset not in offsets or spot is None or spot.pack != number:
                continue
            stored = await self._reader.stored(spot)
            try:
                base = await self._reader.read(r.base) if r.base else b""
                await checked(r.digest, r.length, r.code, stored, base)
            except (Invalid, NotFound) as error:
                log.warning("a chunk is left where it lies: %s", error.sentence())
                continue
            frame = Frame(
                digest=r.digest, length=r.length, stored=r.stored, code=r.code, base=r.base
            )
            await new.append(frame, stored)

    # ---- packs that nobody uses

    async def _remove_unused(
        self, marks: Marks, limit: _Limit, tally: _Tally, *, dry_run: bool
    ) -> None:
        for number in list(self._catalog.packs):
            if marks.bytes_used(number) == 0:
                await self._remove_pack(number, marks, limit, tally, dry_run=dry_run)

    async def _remove_pack(
        self, number: int, marks: Marks, limit: _Limit, tally: _Tally, *, dry_run: bool
    ) -> None:
        if self._catalog.needed_since(number, limit.cutoff, grace=limit.grace):
            return
        pack = self._catalog.packs[number]
        if not dry_run:
            records = await self._records(number)
            async with self._changing:
                if records is None or self._needed(number, records, marks, limit):
                    return
                self._catalog.remove(number, records)
                await self._objects.delete(f"{pack_key(pack.id)}.index")
                await self._objects.delete(pack_key(pack.id))
        tally.removed += 1
        tally.freed += pack.size

    def _needed(self, number: int, records: Iterable[Record], marks: Marks, limit: _Limit) -> bool:
        """Tell whether a pack must stay: somebody came, or a chunk in use could not be moved."""
        if self._catalog.needed_since(number, limit.cutoff, grace=limit.grace):
            return True
        used = marks.offsets(number)
        return any(
            r.offset in used and (spot := self._catalog.find(r.digest)) and spot.pack == number
            for r in records
        )

    async def _records(self, number: int) -> list[Record] | None:
        key = f"{pack_key(self._catalog.packs[number].id)}.index"
        try:
            return decode_index(b"".join([block async for block in self._objects.read(key)]))
        except (Invalid, NotFound) as error:
            log.warning("%s is left alone: %s", key, error.sentence())
            return None

    # ---- what lies beside

    async def _remove_strays(
        self, listed: Mapping[str, ObjectInfo], limit: _Limit, tally: _Tally, *, dry_run: bool
    ) -> None:
        """Remove packs without an index and indexes without a pack: a kill, or a push that could
        not be stored, left them. A pack whose index is there but damaged is left to a person."""
        for key, info in listed.items():
            name, dot, _ = key.removeprefix("packs/").partition(".")
            other = pack_key(name) if dot else f"{key}.index"
            if not key.startswith("packs/") or other in listed or info.modified_at > limit.cutoff:
                continue
            if not dry_run:
                async with self._changing:
                    if self._catalog.number(name) is not None:
                        continue
                    await self._objects.delete(key)
            tally.removed += not dot
            tally.freed += info.size

    async def _remove_documents(
        self,
        listed: Mapping[str, ObjectInfo],
        live: Collection[str],
        limit: _Limit,
        tally: _Tally,
        *,
        dry_run: bool,
    ) -> None:
        for key, info in listed.items():
            folder, _, digest = key.rpartition("/")
            if folder not in FOLDERS.values() or digest in live or info.modified_at > limit.cutoff:
                continue
            if not dry_run:
                async with self._changing:
                    if self._documents.touched.get(key, 0) > limit.cutoff.timestamp():
                        continue
                    await self._objects.delete(key)
            tally.documents += 1
            tally.freed += info.size
