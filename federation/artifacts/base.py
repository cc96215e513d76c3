"""Where the files of model packages are kept: bytes named by their BLAKE3.

Input: streams of bytes from a push. Output: the same bytes, whole or by range, to agents. Every
implementation passes tests/federation/artifacts/test_blob_stores.py.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Protocol

from federation.contract.errors import Invalid

_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobStore(Protocol):
    """Immutable blobs. A blob is whole or absent, also after a crash at any point."""

    async def missing(self, digests: Iterable[str]) -> list[str]:
        """Return those of `digests` that are not stored, each once, in the order given."""
        ...

    async def size(self, digest: str) -> int:
        """Return the length in bytes; raises NotFound."""
        ...

    async def put(self, digest: str, chunks: AsyncIterable[bytes], *, max_bytes: int) -> int:
        """Store the bytes if their BLAKE3 is `digest`, and return their number.

        Raises Invalid if it is another, TooLarge after `max_bytes`, Exhausted if the disk is full,
        and whatever `chunks` raises; nothing is kept then.
        """
        ...

    def read(self, digest: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield `length` bytes from `start`, all of the rest if None; raises NotFound."""
        ...


def check_digest(digest: str) -> str:
    """Return `digest` if it is a BLAKE3 in hex; raises Invalid. Paths are built from it."""
    if not _DIGEST.fullmatch(digest):
        shown = digest if len(digest) <= 80 else f"{digest[:80]}..."
        raise Invalid(
            f"{shown!r} is no BLAKE3 digest.", hint="Use 64 lower-case hexadecimal digits."
        )
    return digest
