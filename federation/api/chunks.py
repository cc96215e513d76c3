"""Chunks of packages: which are missing, and the upload of those.

Input: digests, and frames, from `fed model push`. Output: one byte for each digest; chunks in the
artifact store, each checked before it is kept. What of a body came whole is kept, however the
request ends: a push that is cut goes on where it was.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from federation.api.bodies import reply
from federation.api.frames import frames_of
from federation.api.route import Route, needs
from federation.artifacts.base import ArtifactStore, Upload
from federation.contract.errors import Exhausted, Invalid, NotFound, TooLarge
from federation.policy.access.roles import Verb
from federation.relay.server import BodyLimits, iter_body, read_body

OCTETS = "application/octet-stream"
MAX_DIGESTS = 100_000
MAX_UPLOAD_BYTES = 4 << 30  # of one request; a push may make as many as it likes
MAX_UPLOADS = 8  # at once; each holds two chunks of up to 16 MiB
_DIGEST_BYTES = 32
_MISSING_LIMITS = BodyLimits(max_bytes=MAX_DIGESTS * _DIGEST_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunksStored:
    """What an upload brought: its chunks, and the bytes that they have once decoded."""

    chunks: int
    bytes: int


class Chunks:
    """The handlers of /api/v1/chunks."""

    def __init__(
        self,
        store: ArtifactStore,
        *,
        max_upload_bytes: int = MAX_UPLOAD_BYTES,
        max_uploads: int = MAX_UPLOADS,
    ) -> None:
        self._store = store
        self._limits = BodyLimits(max_bytes=max_upload_bytes, total_s=24 * 3600.0, grace_s=30.0)
        self._uploads_left = max_uploads

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="POST",
                path="/api/v1/chunks/missing",
                summary="Tell which chunks have to be uploaded: digests of 32 bytes in, for each "
                "one a byte out, 1 = missing",
                handler=self._missing,
                needs=needs(Verb.WRITE, "Chunk", ""),
                body=OCTETS,
                answer=OCTETS,
                errors=(Invalid, TooLarge),
            ),
            Route(
                method="POST",
                path="/api/v1/chunks",
                summary="Upload chunks in frames; those that came whole are kept",
                handler=self._upload,
                needs=needs(Verb.WRITE, "Chunk", ""),
                body=OCTETS,
                answer=ChunksStored,
                errors=(Invalid, NotFound, TooLarge, Exhausted),
            ),
        ]

    async def _missing(self, request: web.Request) -> web.Response:
        body = await read_body(request, _MISSING_LIMITS)
        if len(body) % _DIGEST_BYTES:
            raise Invalid("the body must be digests of 32 bytes each.")
        starts = range(0, len(body), _DIGEST_BYTES)
        missing = await self._store.missing([body[at : at + _DIGEST_BYTES] for at in starts])
        return web.Response(body=bytes(missing), content_type=OCTETS)

    async def _upload(self, request: web.Request) -> web.Response:
        chunks = size = 0
        async with self._uploading() as upload:
            async for frame, stored in frames_of(iter_body(request, self._limits)):
                await upload.add(frame, stored)
                chunks, size = chunks + 1, size + frame.length
        return reply(ChunksStored(chunks=chunks, bytes=size))

    @asynccontextmanager
    async def _uploading(self) -> AsyncIterator[Upload]:
        """An upload that is sealed however it ends; raises Exhausted if there are too many."""
        if not self._uploads_left:
            raise Exhausted("too many uploads are running.", hint="Try again soon.")
        self._uploads_left -= 1
        try:
            upload = self._store.upload()
            try:
                yield upload
            finally:
                await upload.seal()
        finally:
            self._uploads_left += 1
