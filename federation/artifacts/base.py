"""Where packages are kept: chunks in immutable packs, documents beside them.

Input: chunks and documents from pushes. Output: which chunks are there, where they lie, their bytes
by range. Two protocols: `ObjectStore` is a place for bytes by name (a directory, a bucket);
`ArtifactStore` is what the control plane uses, built on any ObjectStore (`artifacts.packs`).

Every ObjectStore passes tests/federation/artifacts/test_object_stores.py, every ArtifactStore
tests/federation/artifacts/test_packs.py.
"""

import re
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from federation.contract.errors import Invalid
from federation.contract.locations import Frame, Locations

_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[0-9a-z]{1,32}(?:/[0-9a-z][0-9a-z._-]{0,127}){0,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """An object in a listing."""

    key: str
    size: int
    modified_at: datetime


class ObjectWriter(Protocol):
    """An object that is being written; nobody sees it before `commit`."""

    async def write(self, data: bytes) -> None:
        """Append bytes; raises Exhausted if the disk is full, Unavailable if the store is away."""
        ...

    async def commit(self, key: str) -> None:
        """Make it durable under `key`; an object that is there already stays, and this one goes."""
        ...

    async def abort(self) -> None:
        """Forget it."""
        ...


class ObjectStore(Protocol):
    """Objects by key (`packs/ab12…`), written once but for `replace`. An object is whole or absent,
    whatever crashes. All methods raise Unavailable if the store cannot be reached, and Invalid for
    a key that could name something outside of it."""

    def writer(self) -> ObjectWriter:
        """Begin an object whose key may not be known yet."""
        ...

    async def put(self, key: str, data: bytes) -> bool:
        """Store a small object; False, and nothing changes, if the key is taken."""
        ...

    async def replace(self, key: str, data: bytes) -> None:
        """Store a small object in place of what is there; readers get all of one or the other."""
        ...

    async def size(self, key: str) -> int:
        """Return the length; raises NotFound."""
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield bytes from `start`, all of the rest if None; raises NotFound."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; one that is absent is fine."""
        ...

    async def signed_url(self, key: str, lifetime: timedelta) -> str | None:
        """Return a URL by which anybody can fetch it for a while; None if the store has none."""
        ...


class Upload(Protocol):
    """Chunks that come in over one request. Those that were added stay, however it ends."""

    async def add(self, frame: Frame, stored: bytes) -> None:
        """Check a chunk (decode, hash) and append it, unless it is there already.

        Raises Invalid if the bytes are not what the frame says, NotFound if its base is absent.
        """
        ...

    async def seal(self) -> None:
        """Make durable and findable what was added; to be called also when the request was cut."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection of garbage did, or (a dry run) would do. Bytes are those on disk;
    `bytes_freed` is below 0 if packs were rewritten whose old form is still within the grace."""

    packs: int
    packs_removed: int
    packs_rewritten: int
    documents_removed: int
    bytes_before: int
    bytes_freed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Something that is not as it should be: in words, with the object that it concerns."""

    key: str
    problem: str


class ArtifactStore(Protocol):
    """Chunks and documents. A chunk that is not missing can be read, also after a crash."""

    async def missing(self, digests: Sequence[bytes]) -> list[bool]:
        """Tell for each digest whether it has to be uploaded; keeps those that are there from being
        collected for the time of grace."""
        ...

    async def lengths(self, digests: Sequence[bytes]) -> list[int]:
        """Return the length of each chunk once decoded, 0 for those that are missing."""
        ...

    def upload(self) -> Upload:
        """Begin to take chunks in; several uploads may run side by side."""
        ...

    async def locate(self, digests: Iterable[bytes], *, url_lifetime: timedelta) -> Locations:
        """Return the places of chunks, in order; raises NotFound."""
        ...

    async def read_chunk(self, digest: bytes) -> bytes:
        """Return the decoded, checked bytes of a chunk; raises NotFound, or Invalid if damaged."""
        ...

    async def pack_size(self, pack: str) -> int:
        """Return the length of a pack; raises NotFound."""
        ...

    def read_pack(self, pack: str, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield bytes of a pack; raises NotFound."""
        ...

    async def put_document(self, kind: str, digest: str, data: bytes) -> None:
        """Keep a small document: `kind` "manifest" or "release", `digest` the manifest's. A release
        replaces an older one; a manifest never changes."""
        ...

    async def document(self, kind: str, digest: str) -> bytes:
        """Return a document; raises NotFound."""
        ...

    async def collect(
        self, live: Collection[str], *, now: datetime, grace: timedelta, dry_run: bool = False
    ) -> Collected:
        """Remove what no manifest in `live` (digests) uses and nobody touched within `grace`;
        rewrite packs of which less than half is used. Safe beside running pushes and fetches, as
        long as `grace` is longer than they, and than any signed URL. Raises Conflict, and removes
        nothing, if a live manifest cannot be read."""
        ...

    async def verify(self, digests: Collection[str]) -> list[Damage]:
        """Read and check every chunk and document of these manifests. A damaged chunk is missing
        from then on, so that a push sends it again."""
        ...


def check_digest(digest: str) -> str:
    """Return `digest` if it is a BLAKE3 in hex; raises Invalid. Paths are built from it."""
    if not _DIGEST.fullmatch(digest):
        shown = digest if len(digest) <= 80 else f"{digest[:80]}..."
        raise Invalid(
            f"{shown!r} is no BLAKE3 digest.", hint="Use 64 lower-case hexadecimal digits."
        )
    return digest


def check_key(key: str) -> str:
    """Return `key` if it names an object inside the store (`packs/ab12.index`), else raise Invalid.

    Lower case, no empty parts, no part that begins with a point: safe as a path and in a URL.
    """
    if not _KEY.fullmatch(key) or key.split("/")[0] == "incoming":
        raise Invalid(f"{key[:80]!r} is no key of an object.")
    return key
