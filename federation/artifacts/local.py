"""Blobs in a directory: `ab/ab12...` below the root, half-written ones in `incoming/`.

Input: a directory of this process alone, and streams of bytes. Output: files that appear by rename
only after their bytes were hashed and synced. Files are touched in worker threads, so that a large
push never holds up the event loop.
"""

import asyncio
import errno
import os
import shutil
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from federation.artifacts.base import check_digest
from federation.contract.errors import Exhausted, Invalid, NotFound, TooLarge
from federation.runtime.files import fsync_directory

_BLOCK_BYTES = 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class LocalBlobStore:
    """A BlobStore in the directory `root`. What a crash left half-written is deleted at start."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        if self._incoming.exists():
            shutil.rmtree(self._incoming)
        self._incoming.mkdir(parents=True)

    def __repr__(self) -> str:
        return f"LocalBlobStore({self._root})"

    def _path(self, digest: str) -> Path:
        check_digest(digest)
        return self._root / digest[:2] / digest

    async def missing(self, digests: Iterable[str]) -> list[str]:
        """Return those of `digests` that are not stored."""
        paths = {digest: self._path(digest) for digest in digests}
        return await asyncio.to_thread(
            lambda: [digest for digest, path in paths.items() if not path.is_file()]
        )

    async def size(self, digest: str) -> int:
        """Return the length in bytes; raises NotFound."""
        try:
            return (await asyncio.to_thread(self._path(digest).stat)).st_size
        except FileNotFoundError:
            raise _absent(digest) from None

    async def put(self, digest: str, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
        """Store the bytes if their BLAKE3 is `digest`; see BlobStore."""
        target = self._path(digest)
        temporary = self._incoming / f"{digest}.{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                found, size = await _receive(chunks, file, max_bytes)
                if found != digest:
                    raise Invalid(
                        f"the {size} bytes received have the BLAKE3 {found}, not {digest}.",
                        hint="The transfer was cut or the file changed: send it again.",
                    )
                await asyncio.to_thread(_publish, file, temporary, target)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise Exhausted(
                    "the blob store is full.", hint="Free space in the state directory."
                ) from None
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return size

    async def read(
        self, digest: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield `length` bytes from `start`; see BlobStore."""
        try:
            file = await asyncio.to_thread(self._path(digest).open, "rb")
        except FileNotFoundError:
            raise _absent(digest) from None
        with file:
            file.seek(start)
            left = length
            while left is None or left > 0:
                count = _BLOCK_BYTES if left is None else min(_BLOCK_BYTES, left)
                block = await asyncio.to_thread(file.read, count)
                if not block:
                    return
                left = None if left is None else left - len(block)
                yield block


async def _receive(chunks: AsyncIterable[bytes], file: BinaryIO, max_bytes: int) -> tuple[str, int]:
    """Write the chunks, a block at a time, and return their BLAKE3 and number."""
    hasher, size, waiting = blake3(), 0, bytearray()

    def flush(block: bytes) -> None:
        hasher.update(block)
        file.write(block)

    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(
                f"the blob is longer than the limit of {max_bytes} bytes.",
                hint="The operator raises it with --max-blob-bytes.",
            )
        waiting += chunk
        if len(waiting) >= _BLOCK_BYTES:
            await asyncio.to_thread(flush, bytes(waiting))
            waiting.clear()
    await asyncio.to_thread(flush, bytes(waiting))
    return hasher.hexdigest(), size


def _publish(file: BinaryIO, temporary: Path, target: Path) -> None:
    """Make the bytes durable, then visible; a rename over an equal blob changes nothing."""
    file.flush()
    os.fsync(file.fileno())
    new_folder = not target.parent.exists()
    target.parent.mkdir(exist_ok=True)
    temporary.replace(target)
    fsync_directory(target.parent)
    if new_folder:
        fsync_directory(target.parent.parent)


def _absent(digest: str) -> NotFound:
    return NotFound(f"there is no blob {digest}.", hint="Push the model again to upload it.")
