"""Watching a kind of resources: server-sent events that resume where a client left off.

Input: changes from the publisher, and the views. Output: `event: ADDED|MODIFIED|DELETED` with the
revision as `id` and the document as data; a comment now and then keeps the connection alive. A
watcher that lost changes gets `event: ERROR` with reason "fell-behind" and must list again; one
whose right to watch ended gets it with the reason for that.
"""

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from federation.api.errors import after_the_head
from federation.api.route import admit_again
from federation.contract.errors import FederationError, Invalid, NotFound
from federation.contract.resources import API_VERSION, Kind
from federation.control_loop import ControlLoop
from federation.policy import views
from federation.publisher import Change, FellBehind, Publisher
from federation.runtime.clock import Clock

HEARTBEAT_S = 15.0
_BEHIND = "changes after this revision are no longer known: list again, then watch from there."


class Watch:
    """Serves the watchers; `close` ends them when the server stops."""

    def __init__(
        self,
        *,
        loop: ControlLoop,
        publisher: Publisher,
        clock: Clock,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._loop = loop
        self._publisher = publisher
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"Watch(watchers={len(self._tasks)})"

    def close(self) -> None:
        """End all watchers politely, and for good."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def serve(self, request: web.Request, kind: Kind) -> web.StreamResponse:
        """Send changes of one kind until the client leaves."""
        after = revision_asked_for(request)
        response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a handler runs in a task
        self._tasks.add(task)
        try:
            with after_the_head(request):
                await self._until_closed(_Stream(request, response, kind), after)
        finally:
            self._tasks.discard(task)
        return response

    async def _until_closed(self, stream: "_Stream", after: int | None) -> None:
        try:
            await self._send_all(stream, after)
        except asyncio.CancelledError:
            if not self._closed:
                raise

    async def _send_all(self, stream: "_Stream", after: int | None) -> None:
        """Send what is there (or what changed after a revision), then each change as it comes."""
        state = self._loop.state
        try:
            if after is None:
                documents, after = self._documents(stream), state.revision
                await self._loop.durable()
                await stream.send_list(documents, after)
            else:
                stream.assume_known(self._documents(stream), after)
            while await stream.is_admitted():
                changes = self._changes_after(after)
                newest = _newest_of_each(changes, stream.kind.name)
                told = [(change, self._document(change)) for change in newest]
                if told:
                    await self._loop.durable()
                for change, document in told:
                    await stream.send_change(change, document)
                after = max([after, *(change.revision for change in changes)])
                if not changes:
                    await self._wait(stream)
        except FellBehind:
            await stream.send("ERROR", {"reason": "fell-behind", "detail": _BEHIND})

    def _changes_after(self, revision: int) -> list[Change]:
        """Return the changes; raises FellBehind, also for a revision that is yet to come.

        Such a revision was told by a control plane whose newest state was lost.
        """
        if revision > self._loop.state.revision:
            raise FellBehind
        return self._publisher.changes_after(revision)

    async def _wait(self, stream: "_Stream") -> None:
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await self._publisher.wait_for_changes()
        except TimeoutError:
            await stream.send_heartbeat()

    def _documents(self, stream: "_Stream") -> list[dict[str, Any]]:
        return views.documents(self._loop.state, stream.kind.name, self._clock.utc())

    def _document(self, change: Change) -> dict[str, Any] | None:
        """Return the object as it is now; None if it is gone."""
        try:
            return views.document(self._loop.state, change.kind, change.name, self._clock.utc())
        except NotFound:
            return None


class _Stream:
    """One watcher: what was sent to it, and in which words the next change is told."""

    def __init__(self, request: web.Request, response: web.StreamResponse, kind: Kind) -> None:
        self.kind = kind
        self._request = request
        self._response = response
        self._known: set[str] = set()

    async def is_admitted(self) -> bool:
        """Return whether the watcher still may watch; tells it if not: keys end while it does."""
        try:
            await admit_again(self._request)
        except FederationError as error:
            await self.send("ERROR", {"reason": error.reason, "detail": error.sentence()})
            return False
        return True

    async def send_list(self, documents: list[dict[str, Any]], revision: int) -> None:
        """Send all objects. Only the last carries the revision: a cut list is begun anew."""
        for number, document in enumerate(documents, start=1):
            self._known.add(document["metadata"]["name"])
            await self.send("ADDED", document, revision if number == len(documents) else None)

    def assume_known(self, documents: list[dict[str, Any]], revision: int) -> None:
        """Note which objects a client knows that resumes after `revision`."""
        if self.kind.name == "Event":  # never modified
            return
        for document in documents:
            metadata = document["metadata"]
            is_new = metadata.get("generation") == 1 and metadata["resourceVersion"] > revision
            if not is_new:
                self._known.add(metadata["name"])

    async def send_change(self, change: Change, document: dict[str, Any] | None) -> None:
        """Send one change: what the object is now, or that it is gone."""
        if document is not None:
            event = "MODIFIED" if change.name in self._known else "ADDED"
            self._known.add(change.name)
            await self.send(event, document, change.revision)
        else:
            self._known.discard(change.name)
            gone = {"apiVersion": API_VERSION, "kind": change.kind}
            await self.send("DELETED", gone | {"metadata": {"name": change.name}}, change.revision)

    async def send(self, event: str, data: object, revision: int | None = None) -> None:
        """Write one server-sent event."""
        id_ = b"" if revision is None else b"id: %d\n" % revision
        body = msgspec.json.encode(data)
        await self._response.write(b"event: %s\n%sdata: %s\n\n" % (event.encode(), id_, body))

    async def send_heartbeat(self) -> None:
        """Write a comment."""
        await self._response.write(b":\n\n")


def _newest_of_each(changes: list[Change], kind: str) -> list[Change]:
    """Return the newest change of each object of a kind, in the order of revisions."""
    newest = {change.name: change for change in changes if change.kind == kind}
    return sorted(newest.values(), key=lambda change: change.revision)


def revision_asked_for(request: web.Request) -> int | None:
    """Return where to resume: Last-Event-ID, else resourceVersion, else None; raises Invalid."""
    text = request.headers.get("Last-Event-ID") or request.query.get("resourceVersion")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Invalid(f"the resource version must be a number, not {text[:40]!r}.")
    return int(text)
