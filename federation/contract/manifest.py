"""The manifest of a package: files, sizes, digests, chunks; and the digest of it all.

Input: entries that a push made, or the canonical bytes of a manifest. Output: a Manifest, its
canonical bytes (JSON, sorted keys, no spaces) and their BLAKE3, which names the content everywhere.

A file is the concatenation of its chunks. Each is 36 bytes in `FileEntry.chunks`: its BLAKE3 and
its length (uint32, little-endian). Where chunks begin is the pusher's choice: nobody cuts again.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
from blake3 import blake3

from federation.contract.errors import Invalid
from federation.contract.package import is_safe_path
from federation.contract.types import FileEntry, Manifest

MAX_FILES = 10_000
MAX_CHUNK_BYTES = 16 << 20
MAX_CHUNKS = 4_000_000  # of one package: 4 TB at the usual size
MAX_MANIFEST_BYTES = 256 << 20
_RECORD = struct.Struct("<32sI")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of bytes that travels whole. `digest` is its BLAKE3, 32 bytes."""

    digest: bytes
    length: int


def pack_chunks(chunks: Iterable[Chunk]) -> bytes:
    """Return the form that chunks have in a FileEntry."""
    return b"".join(_RECORD.pack(chunk.digest, chunk.length) for chunk in chunks)


def chunks_of(entry: FileEntry) -> Iterator[Chunk]:
    """Yield a file's chunks from first to last."""
    for digest, length in _RECORD.iter_unpack(entry.chunks):
        yield Chunk(digest, length)


def distinct_chunks(manifest: Manifest) -> dict[bytes, int]:
    """Return every chunk of a package once, digest to length, in the order of first use."""
    return {chunk.digest: chunk.length for entry in manifest.files for chunk in chunks_of(entry)}


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest."""
    return msgspec.json.encode(manifest, order="sorted")


def manifest_digest(manifest: Manifest) -> str:
    """Return the BLAKE3 of the canonical bytes, in hex."""
    return blake3(manifest_bytes(manifest)).hexdigest()


def parse_manifest(data: bytes) -> Manifest:
    """Parse canonical bytes and check them; raises Invalid."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the manifest is malformed: {error}.") from None
    return check_manifest(manifest)


def check_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest if its paths are safe, unique and ordered, and its chunks make up its
    files; raises Invalid."""
    paths = [entry.path for entry in manifest.files]
    if len(paths) > MAX_FILES:
        raise Invalid(f"a package has at most {MAX_FILES} files; this one has {len(paths)}.")
    for entry in manifest.files:
        if not is_safe_path(entry.path):
            raise Invalid(f"the package names a file outside of itself: {entry.path!r}.")
        if entry.size < 0 or not (_is_digest(entry.blake3) and _is_digest(entry.sha256)):
            raise Invalid(f"the manifest's entry of {entry.path!r} is malformed.")
        _check_chunks(entry)
    if sorted(set(paths)) != paths:
        raise Invalid("the manifest's files must be unique and ordered by path.")
    _check_tree(paths)
    if sum(len(entry.chunks) for entry in manifest.files) > MAX_CHUNKS * _RECORD.size:
        raise Invalid(f"a package has at most {MAX_CHUNKS} chunks.")
    if len(manifest.chunker) > 128:
        raise Invalid("the manifest's chunker is longer than 128 characters.")
    return manifest


def _check_chunks(entry: FileEntry) -> None:
    if len(entry.chunks) % _RECORD.size:
        raise Invalid(f"the manifest's chunks of {entry.path!r} are malformed.")
    total = 0
    for chunk in chunks_of(entry):
        if not 0 < chunk.length <= MAX_CHUNK_BYTES:
            raise Invalid(f"a chunk of {entry.path!r} has {chunk.length} bytes.")
        total += chunk.length
    if total != entry.size:
        raise Invalid(f"the chunks of {entry.path!r} have {total} bytes, the file {entry.size}.")


def _check_tree(paths: list[str]) -> None:
    """Refuse what some file system cannot hold: a file that is a folder as well, and names that
    differ in nothing but upper and lower case."""
    folders: set[str] = set()
    for path in paths:
        parent = path
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            folders.add(parent)
    if both := folders.intersection(paths):
        raise Invalid(f"the package has {min(both)!r} as a file and as a folder.")
    folded: dict[str, str] = {}
    for path in (*paths, *sorted(folders)):
        if (other := folded.setdefault(path.casefold(), path)) != path:
            raise Invalid(f"the package has {other!r} and {path!r}: some disks hold only one.")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)
