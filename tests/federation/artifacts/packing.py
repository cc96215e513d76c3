"""What the tests of the artifact store share: chunks, frames, manifests."""

import random
from collections.abc import Sequence

from blake3 import blake3

from federation.artifacts.base import ArtifactStore, ObjectStore
from federation.contract.locations import Frame
from federation.contract.manifest import Chunk, manifest_bytes, manifest_digest, pack_chunks
from federation.contract.types import FileEntry, Manifest


def content(seed: int, size: int = 5_000) -> bytes:
    """Return the bytes of a chunk, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> bytes:
    """Return the digest of a chunk."""
    return blake3(data).digest()


def frame(data: bytes) -> Frame:
    """Return the head of a chunk that is sent as it is."""
    return Frame(digest=digest(data), length=len(data), stored=len(data))


async def push(store: ArtifactStore, chunks: Sequence[bytes]) -> None:
    """Send chunks as one request does."""
    upload = store.upload()
    for data in chunks:
        await upload.add(frame(data), data)
    await upload.seal()


def manifest_of(*files: Sequence[bytes]) -> Manifest:
    """Return the manifest of a package whose files are made of these chunks."""
    entries = [
        FileEntry(
            path=f"file{number}",
            size=sum(map(len, chunks)),
            blake3=blake3(b"".join(chunks)).hexdigest(),
            sha256="0" * 64,
            chunks=pack_chunks(Chunk(digest(data), len(data)) for data in chunks),
        )
        for number, chunks in enumerate(files)
    ]
    return Manifest(model="m", files=tuple(entries))


async def put_manifest(store: ArtifactStore, *files: Sequence[bytes]) -> str:
    """Keep the manifest of a package; return its digest."""
    manifest = manifest_of(*files)
    await store.put_document("manifest", manifest_digest(manifest), manifest_bytes(manifest))
    return manifest_digest(manifest)


async def keys(objects: ObjectStore, prefix: str = "packs/") -> list[str]:
    """Return the keys of a store."""
    return sorted([info.key async for info in objects.list(prefix)])
