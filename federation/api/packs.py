"""Packs, where the chunks of packages lie: fetched whole or by range, and the links to them.

Input: requests with a token, or with a link that this control plane signed; the settings that tell
who carries the bytes. Output: bytes that never change, so that anything between may keep them; for
`models` the links in a version's locations. An agent's certificate opens no pack by itself: which
packs it may read follows from the versions assigned to it, so it is given links to those.
"""

import re
from dataclasses import replace
from datetime import timedelta

from aiohttp import web

from federation.api.errors import after_the_head, problem_response
from federation.api.route import Route, needs
from federation.artifacts.base import ArtifactStore, check_digest
from federation.contract.errors import Invalid, NotFound
from federation.contract.locations import Locations, PackSource
from federation.identity.links import Links
from federation.policy.access.roles import Verb
from federation.relay.server import write
from federation.runtime.clock import Clock

OCTETS = "application/octet-stream"
LINK_LIFE = timedelta(hours=1)
_FOREVER = "public, max-age=31536000, immutable"
_STALL_S = 60.0
_PATH = "/api/v1/packs"
_RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


class PackLinks:
    """Where agents fetch packs: at `base_url` (a CDN, nginx) if one is set, else at the bucket if
    it signs URLs, else here. `sent_bytes` counts what was fetched here."""

    def __init__(self, links: Links, clock: Clock, *, base_url: str = "") -> None:
        self.sent_bytes = 0
        self._links = links
        self._clock = clock
        self._base = (base_url or _PATH).rstrip("/")
        self._own = bool(base_url)

    def __repr__(self) -> str:
        return f"PackLinks({self._base})"

    def complete(self, locations: Locations) -> Locations:
        """Return locations whose packs have URLs that are good for LINK_LIFE."""
        return replace(
            locations,
            packs=tuple(self._source(pack) for pack in locations.packs),
            good_for_s=LINK_LIFE.total_seconds(),
        )

    def _source(self, pack: PackSource) -> PackSource:
        if not self._own and pack.url.startswith(("https://", "http://")):
            return pack
        # A whole link life from the beginning of this minute on: within it the links are equal.
        expires = int(self._clock.utc().timestamp() + LINK_LIFE.total_seconds()) // 60 * 60 + 60
        query = self._links.query(pack.id, expires)
        return PackSource(id=pack.id, url=f"{self._base}/{pack.id}?{query}")

    def check(self, request: web.Request) -> None:
        """Raise PermissionDenied unless the query of a call is a link to the pack of its path."""
        self._links.check(
            request.match_info["id"],
            request.query.get("expires", ""),
            request.query.get("signature", ""),
            self._clock.utc().timestamp(),
        )


class Packs:
    """The handler of /api/v1/packs."""

    def __init__(self, store: ArtifactStore, links: PackLinks) -> None:
        self._store = store
        self._links = links

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="GET",
                path=_PATH + "/{id}",
                summary="Fetch a pack, or one byte range of it; with a token, or by a signed link",
                handler=self._get,
                needs=needs(Verb.READ, "Pack", "{id}"),
                link=self._links.check,
                answer=OCTETS,
                queries={
                    "expires": "of a signed link: when it ends, in Unix seconds",
                    "signature": "of a signed link",
                },
                errors=(Invalid, NotFound),
            ),
        ]

    async def _get(self, request: web.Request) -> web.StreamResponse:
        pack = check_digest(request.match_info["id"])
        size = await self._store.pack_size(pack)
        tag = f'"{pack}"'
        kept = {"ETag": tag, "Cache-Control": _FOREVER, "Accept-Ranges": "bytes"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=kept)
        asked = request.headers.get("Range")
        if request.headers.get("If-Range", tag) != tag:
            asked = None
        part = byte_range(asked, size)
        start, end = part or (0, size)
        if start >= end:
            refusal = problem_response(416, "range", f"the pack has {size} bytes.")
            refusal.headers["Content-Range"] = f"bytes */{size}"
            return refusal
        response = web.StreamResponse(status=206 if part else 200, headers=kept)
        response.content_type = OCTETS
        response.content_length = end - start
        if part:
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        await response.prepare(request)
        with after_the_head(request):
            async for block in self._store.read_pack(pack, start, end - start):
                await write(request, response, block, _STALL_S)
                self._links.sent_bytes += len(block)
            await response.write_eof()
        return response


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return [start, end) that a Range header asks for (RFC 9110, 14.1.2).

    None when there is no header, or one that is invalid or not served here (several ranges, other
    units): then all is sent. An empty range when nothing of what was asked for exists.
    """
    match = _RANGE.fullmatch(header or "")
    if not match or (match[1] is None and match[2] is None):
        return None
    if match[1] is None:
        return max(size - int(match[2]), 0), size
    start = int(match[1])
    end = size if match[2] is None else min(int(match[2]) + 1, size)
    if match[2] is not None and int(match[2]) < start:
        return None
    return start, end
