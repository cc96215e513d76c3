"""Manifests and releases, one object each, by the manifest's digest.

Input: documents whose digest is known. Output: the same bytes.
"""

import asyncio

from blake3 import blake3

from federation.artifacts.base import ObjectStore, check_digest
from federation.contract.errors import Invalid, NotFound
from federation.runtime.clock import Clock

FOLDERS = {"manifest": "manifests", "release": "releases"}


class Documents:
    """Keeps documents. `changing` is held while objects of the store appear or vanish;
    `touched` tells when a document was last put, in Unix seconds, by key."""

    def __init__(self, objects: ObjectStore, changing: asyncio.Lock, clock: Clock) -> None:
        self._objects = objects
        self._changing = changing
        self._clock = clock
        self.touched: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"Documents({self._objects})"

    async def put(self, kind: str, digest: str, data: bytes) -> None:
        """Keep a document; see ArtifactStore.put_document. A manifest is checked."""
        key = document_key(kind, digest)
        if kind == "manifest" and blake3(data).hexdigest() != digest:
            raise Invalid(f"the manifest's digest is not {digest}.")
        async with self._changing:
            self.touched[key] = self._clock.utc().timestamp()
            # Also when it is there: it may be damaged, and it is young again.
            await self._objects.replace(key, data)

    async def get(self, kind: str, digest: str) -> bytes:
        """Return a document; raises NotFound."""
        key = document_key(kind, digest)
        try:
            return b"".join([block async for block in self._objects.read(key)])
        except NotFound:
            raise NotFound(
                f"the store has no {kind} of package {digest}.", hint="Push the model again."
            ) from None


def document_key(kind: str, digest: str) -> str:
    """Return the key of a document; raises Invalid."""
    if kind not in FOLDERS:
        raise Invalid(f"there is no kind of document {kind!r}.")
    return f"{FOLDERS[kind]}/{check_digest(digest)}"
