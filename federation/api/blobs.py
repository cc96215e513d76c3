"""Model files: which are missing, upload, download by range.

Input: digests and bytes from `fed model push`; range requests from agents. Output: the blob store's
answers. Bytes are streamed both ways and never held whole.
"""

import re
from dataclasses import dataclass

from aiohttp import web

from federation.api.bodies import read_body, reply
from federation.api.errors import after_the_head, problem_response
from federation.api.route import Route, needs
from federation.artifacts.base import BlobStore, check_digest
from federation.contract.errors import Invalid, NotFound, TooLarge
from federation.contract.manifest import MAX_FILES
from federation.policy.access.roles import Verb
from federation.relay.server import BodyLimits, iter_body

OCTETS = "application/octet-stream"
_DAY_S = 24 * 3600.0
_RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobQuestion:
    """Digests (BLAKE3, hex) that the caller may have to upload."""

    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAnswer:
    """Those that are not stored."""

    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStored:
    """A blob that is stored now."""

    digest: str
    size: int


class Blobs:
    """The handlers of /api/v1/blobs."""

    def __init__(self, blobs: BlobStore, *, max_bytes: int) -> None:
        self._blobs = blobs
        self._limits = BodyLimits(max_bytes=max_bytes, total_s=_DAY_S, grace_s=30.0)

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="POST",
                path="/api/v1/blobs/missing",
                summary="Tell which of these blobs are not stored",
                handler=self._missing,
                needs=needs(Verb.WRITE, "Blob", ""),
                body=BlobQuestion,
                answer=BlobAnswer,
                errors=(Invalid,),
            ),
            Route(
                method="PUT",
                path="/api/v1/blobs/{digest}",
                summary="Store a blob; its BLAKE3 must be the digest in the path",
                handler=self._put,
                needs=needs(Verb.WRITE, "Blob", "{digest}"),
                body=OCTETS,
                answer=BlobStored,
                errors=(Invalid, TooLarge),
            ),
            Route(
                method="GET",
                path="/api/v1/blobs/{digest}",
                summary="Fetch a blob, or one byte range of it",
                handler=self._get,
                needs=needs(Verb.READ, "Blob", "{digest}"),
                answer=OCTETS,
                errors=(Invalid, NotFound),
            ),
        ]

    async def _missing(self, request: web.Request) -> web.Response:
        question = await read_body(request, BlobQuestion)
        if len(question.digests) > MAX_FILES:
            raise Invalid(f"at most {MAX_FILES} digests can be asked for at once.")
        missing = await self._blobs.missing(question.digests)
        return reply(BlobAnswer(missing=tuple(missing)))

    async def _put(self, request: web.Request) -> web.Response:
        digest = check_digest(request.match_info["digest"])
        body = iter_body(request, self._limits)
        size = await self._blobs.put(digest, body, max_bytes=self._limits.max_bytes)
        return reply(BlobStored(digest=digest, size=size))

    async def _get(self, request: web.Request) -> web.StreamResponse:
        digest = check_digest(request.match_info["digest"])
        size = await self._blobs.size(digest)
        start, end = _byte_range(request.headers.get("Range"), size)
        if start >= end and size:
            refusal = problem_response(416, "range", f"the blob has {size} bytes.")
            refusal.headers["Content-Range"] = f"bytes */{size}"
            return refusal
        partial = (start, end) != (0, size)
        response = web.StreamResponse(status=206 if partial else 200)
        response.content_type = OCTETS
        response.content_length = end - start
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["ETag"] = f'"{digest}"'
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        await response.prepare(request)
        with after_the_head(request):
            async for block in self._blobs.read(digest, start, end - start):
                await response.write(block)
            await response.write_eof()
        return response


def _byte_range(header: str | None, size: int) -> tuple[int, int]:
    """Return [start, end) that a Range header asks for (RFC 9110, 14.1.2).

    All of it when there is no header or one that we don't serve (more than one range, other units);
    an empty range when nothing of what was asked for exists.
    """
    match = _RANGE.fullmatch(header or "")
    if not match or (match[1] is None and match[2] is None):
        return 0, size
    if match[1] is None:
        return max(size - int(match[2]), 0), size
    start = int(match[1])
    end = size if match[2] is None else min(int(match[2]) + 1, size)
    if match[2] is not None and int(match[2]) < start:
        return 0, size  # an invalid range is ignored
    return start, end
