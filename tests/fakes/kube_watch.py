"""How the fake Kubernetes API server feeds one watch: changes, bookmarks, its end, its faults."""

import asyncio
import json
from contextlib import suppress
from typing import Protocol

from aiohttp import web

from tests.fakes.kube_faults import Faults, Request
from tests.fakes.kube_kinds import Kind, Obj, Refusal
from tests.fakes.kube_objects import KubeObjects
from tests.fakes.kube_selectors import selector

DEFAULT_S = 1800.0
BEFORE_END_S = 2.0  # the last bookmark comes so long before the end


class Server(Protocol):
    """What a watch needs of its server."""

    objects: KubeObjects
    faults: Faults
    watches: list[web.Request]
    bookmark_s: float
    gone_as_event: bool


async def watch(
    server: Server, http: web.Request, request: Request, kind: Kind
) -> web.StreamResponse:
    """Answer a watch; raises Refusal before anything was said."""
    version = int(request.query.get("resourceVersion") or 0)
    feed = _Feed(server, request, kind, version)
    error = feed.too_old()
    if error is not None and not server.gone_as_event:
        raise error
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(http)
    if error is not None:
        await _say(response, "ERROR", error.status())
        return response
    server.watches.append(http)
    server.objects.waiting.add(feed.changed)
    try:
        await feed.run(response)
    finally:
        server.watches.remove(http)
        server.objects.waiting.discard(feed.changed)
    return response


class _Feed:
    """One open watch."""

    def __init__(self, server: Server, request: Request, kind: Kind, version: int) -> None:
        query = request.query
        self.changed = asyncio.Event()
        self._server, self._request, self._kind, self._version = server, request, kind, version
        self._matches = selector(
            kind, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + float(query.get("timeoutSeconds") or DEFAULT_S)
        self._bookmark = self._end + 1.0
        if query.get("allowWatchBookmarks") == "true":
            before_end = max(self._clock(), self._end - BEFORE_END_S)
            self._bookmark = min(self._clock() + server.bookmark_s, before_end)

    def too_old(self) -> Refusal | None:
        try:
            self._server.objects.since(self._kind, self._version or self._server.objects.version)
        except Refusal as refusal:
            return refusal
        return None

    async def run(self, response: web.StreamResponse) -> None:
        objects, faults = self._server.objects, self._server.faults
        if not self._version:
            for obj in objects.select(self._kind, self._request.namespace, self._matches):
                await _say(response, "ADDED", obj)
            self._version = objects.version
        while self._clock() < self._end:
            self.changed.clear()
            if faults.garbage:
                await response.write(b'{"type": "ADDED", "object": \n')
            if not await self._tell(response):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._end, self._bookmark)):
                    await self.changed.wait()
            if faults.deaf:
                await asyncio.Event().wait()

    async def _tell(self, response: web.StreamResponse) -> bool:
        """Say what is new; False where it is no longer known."""
        objects = self._server.objects
        try:
            changes = objects.since(self._kind, self._version)
        except Refusal as refusal:
            await _say(response, "ERROR", refusal.status())
            return False
        for change in changes:
            self._version = change.version
            if told := change.seen_by(self._request.namespace, self._matches):
                await _say(response, *told)
        if self._clock() >= self._bookmark:
            self._version = objects.version
            self._bookmark = self._clock() + self._server.bookmark_s
            metadata = {"resourceVersion": str(self._version)}
            kind = {"kind": self._kind.kind, "apiVersion": self._kind.api_version}
            await _say(response, "BOOKMARK", {**kind, "metadata": metadata})
        return True


async def _say(response: web.StreamResponse, change: str, obj: Obj) -> None:
    await response.write(json.dumps({"type": change, "object": obj}).encode() + b"\n")
