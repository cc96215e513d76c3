"""Chunks into packs: all uploads fill one open pack, so that what several bring is stored once.

Input: frames and their stored bytes. Output: packs of at most 64 MiB, each durable before its index
object, and both before any of its chunks can be found.

When a request is cut, its upload is sealed like any other. When the process is killed, the open
pack is a half-written object that nobody sees, or a pack without an index, which the next
collection of garbage removes.
"""

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import replace

from blake3 import blake3

from federation.artifacts.base import ObjectStore, ObjectWriter
from federation.artifacts.catalog import Catalog, Pack
from federation.artifacts.chunk_reader import ChunkReader, checked, pack_key
from federation.artifacts.index import Record, encode_index
from federation.artifacts.touches import Touches
from federation.chunking.encoding import shrink
from federation.contract.errors import FederationError, Invalid, NotFound, Unavailable
from federation.contract.locations import RAW, WITH_BASE, Frame
from federation.contract.manifest import MAX_CHUNK_BYTES
from federation.runtime.clock import Clock

PACK_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20
# What an encoder may add to bytes that do not compress.
MAX_STORED_BYTES = MAX_CHUNK_BYTES + (64 << 10)


class OpenPack:
    """A pack that is being filled. `failure` is why it never became one."""

    def __init__(self, writer: ObjectWriter) -> None:
        self.writer = writer
        self.size = 0
        self.records: list[Record] = []
        self.digests: set[bytes] = set()
        self.done = False
        self.failure: FederationError | None = None
        self._hasher = blake3()
        self._waiting = bytearray()

    def __repr__(self) -> str:
        return f"OpenPack({len(self.records)} chunks, {self.size} bytes, done={self.done})"

    async def append(self, frame: Frame, stored: bytes) -> None:
        """Append a checked chunk."""
        record = Record(frame.digest, self.size, len(stored), frame.length, frame.code, frame.base)
        self.size += len(stored)
        if len(stored) < _BLOCK_BYTES:
            self._waiting += stored
            if len(self._waiting) >= _BLOCK_BYTES:
                await self.flush()
        else:
            await self.flush()
            await self._write(stored)
        self.records.append(record)
        self.digests.add(frame.digest)

    async def flush(self) -> None:
        """Give the writer what was kept back to make larger blocks."""
        if self._waiting:
            block, self._waiting = bytes(self._waiting), bytearray()
            await self._write(block)

    async def _write(self, block: bytes) -> None:
        await asyncio.to_thread(self._hasher.update, block)
        await self.writer.write(block)

    @property
    def id(self) -> str:
        """The digest of the bytes written so far."""
        return self._hasher.hexdigest()


class Intake:
    """The one place where packs are made."""

    def __init__(self, objects: ObjectStore, catalog: Catalog, clock: Clock) -> None:
        self._objects = objects
        self._catalog = catalog
        self._changing = catalog.changing
        self._clock = clock
        self._filling = asyncio.Lock()
        self._open: OpenPack | None = None

    def __repr__(self) -> str:
        return f"Intake({self._open})"

    def waiting(self, digest: bytes) -> OpenPack | None:
        """Return the pack that holds a chunk and is not sealed yet."""
        if self._open is not None and digest in self._open.digests:
            return self._open
        return None

    async def append(self, frame: Frame, stored: bytes) -> OpenPack | None:
        """Append a checked chunk unless it is there; return the open pack that holds it, if any."""
        async with self._filling:
            if self._catalog.find(frame.digest) is not None:
                return None
            if pack := self.waiting(frame.digest):
                return pack
            if self._open and self._open.size + len(stored) > PACK_BYTES:
                await self._seal(self._open)
            self._open = pack = self._open or OpenPack(self._objects.writer())
            await self._or_fail(pack, pack.append(frame, stored))
            return pack

    async def seal(self, pack: OpenPack) -> None:
        """Make a pack durable and its chunks findable; raises what prevented it."""
        async with self._filling:
            if not pack.done:
                await self._seal(pack)
        if pack.failure is not None:
            raise pack.failure

    async def _seal(self, pack: OpenPack) -> None:
        await self._or_fail(pack, self.publish(pack))
        self._open = None

    async def publish(self, pack: OpenPack, *, over: bool = False) -> None:
        """Make a pack durable, then its index, then its chunks findable (see Catalog.add)."""
        await pack.flush()
        async with self._changing:
            key = pack_key(pack.id)
            if self._catalog.number(pack.id) is None:
                # What lies there is garbage of a kill, or damaged: it must not pass for this pack.
                await self._objects.delete(key)
            await pack.writer.commit(key)
            # Replaces what may lie there damaged: the pack's bytes decide what is in its index.
            await self._objects.replace(f"{key}.index", encode_index(pack.records))
            now = self._clock.utc()
            sealed = Pack(pack.id, pack.size, modified_at=now, touched_at=now, noted_at=now)
            self._catalog.add(sealed, pack.records, over=over)
            if any(r.base and self._catalog.find(r.base) is None for r in pack.records):
                self._catalog.forget_leaning()  # found damaged meanwhile
        pack.done = True

    async def _or_fail(self, pack: OpenPack, step: Awaitable[None]) -> None:
        """Take a step with a pack. If it fails, the pack is over for all who have chunks in it."""
        try:
            await step
        except BaseException as error:
            self._open = None
            pack.done = True
            pack.failure = Unavailable("the chunks could not be stored.", hint="Send them again.")
            if isinstance(error, FederationError):
                pack.failure = error
            with contextlib.suppress(FederationError):
                await pack.writer.abort()
            raise


class PackUpload:
    """An Upload into the store's open pack."""

    def __init__(
        self,
        intake: Intake,
        catalog: Catalog,
        reader: ChunkReader,
        touches: Touches,
    ) -> None:
        self._intake = intake
        self._catalog = catalog
        self._reader = reader
        self._touches = touches
        self._packs: list[OpenPack] = []
        self._relied_on: set[int] = set()

    def __repr__(self) -> str:
        return f"PackUpload({self._packs})"

    async def add(self, frame: Frame, stored: bytes) -> None:
        """Check a chunk and append it; see Upload."""
        check_frame(frame, stored)
        if self._known(frame.digest):
            return
        base = await self._base(frame) if frame.base else b""
        data = await checked(frame.digest, frame.length, frame.code, stored, base)
        if frame.base and self._catalog.base(frame.base):  # nobody shall need three to read one
            frame, stored = await asyncio.to_thread(_whole, frame, data)
        # Shielded: a request that ends here must not leave half a chunk in everybody's pack.
        self._rely_on(await asyncio.shield(self._intake.append(frame, stored)))
        self._known(frame.digest)

    async def seal(self) -> None:
        """Make durable and findable what was added; see Upload."""
        for pack in self._packs:
            await asyncio.shield(self._intake.seal(pack))
        self._packs.clear()
        await self._touches.note(self._relied_on)

    def _known(self, digest: bytes) -> bool:
        if packs := self._catalog.packs_of(digest):
            self._touches.touch(packs)
            self._relied_on |= packs
            return True
        pack = self._intake.waiting(digest)
        self._rely_on(pack)
        return pack is not None

    def _rely_on(self, pack: OpenPack | None) -> None:
        if pack is not None and pack not in self._packs:
            self._packs.append(pack)

    async def _base(self, frame: Frame) -> bytes:
        if pack := self._intake.waiting(frame.base):
            await asyncio.shield(self._intake.seal(pack))
        if not self._known(frame.base):
            raise NotFound(
                f"the store has no chunk {frame.base.hex()}, the base of another one.",
                hint="Send the chunk whole.",
            )
        return await self._reader.read(frame.base)


def _whole(frame: Frame, data: bytes) -> tuple[Frame, bytes]:
    """Return a chunk without a base."""
    code, stored = shrink(data, frame.code & ~WITH_BASE)
    return replace(frame, code=code, stored=len(stored), base=b""), stored


def check_frame(frame: Frame, stored: bytes) -> None:
    """Refuse a frame that cannot be right, before anything is spent on it; raises Invalid."""
    if len(frame.digest) != 32 or not 0 < frame.length <= MAX_CHUNK_BYTES:
        raise Invalid(f"a chunk has 1 to {MAX_CHUNK_BYTES} bytes; this one has {frame.length}.")
    if len(stored) != frame.stored or not 0 < frame.stored <= MAX_STORED_BYTES:
        raise Invalid(f"a chunk's frame says {frame.stored} bytes; {len(stored)} came.")
    if frame.code == RAW and frame.stored != frame.length:
        raise Invalid(f"a chunk of {frame.length} bytes came with {frame.stored}.")
    if bool(frame.code & WITH_BASE) != (len(frame.base) == 32):
        raise Invalid("a chunk's frame names a base and needs none, or needs one and names none.")
