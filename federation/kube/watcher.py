"""Keeps a view of some kinds of objects true: performs what `watching` decides.

Input: an API server's lists and watches. Output: `replace` and `apply` calls to a view; how fresh
the view is, and why not.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from federation.kube.api import Change, KubeApi, Selection
from federation.kube.errors import Forbidden, Gone, KubeError, NotFound, Throttled
from federation.kube.resources import Resource
from federation.kube.watching import List, Watch, Watching, WatchPatience
from federation.runtime.backoff import Dice
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

_Key = tuple[str, str]  # namespace ("" without) and name


class View(Protocol):
    """What is kept true."""

    def replace(self, kind: str, objects: Iterable[dict[str, Any]]) -> None:
        """Forget all objects of a kind and take these."""
        ...

    def apply(self, kind: str, change: str, obj: dict[str, Any]) -> None:
        """Take a change: "ADDED", "MODIFIED" or "DELETED"."""
        ...


class KubeWatcher:
    """Follows several kinds of objects of one API server, each by itself.

    Optional kinds may be unknown to the server (404): then there are none. Any other refusal ends
    `run`, and `denied` tells which: the view keeps what it knew.
    """

    def __init__(
        self,
        api: KubeApi,
        selections: Sequence[Selection],
        view: View,
        *,
        clock: Clock,
        dice: Dice,
        patience: WatchPatience | None = None,
    ) -> None:
        self._api = api
        self._view = view
        self._clock = clock
        self.on_change: Callable[[], None] = lambda: None
        self._followed = {which.resource: which for which in selections}
        self.watchings: dict[Resource, Watching] = {
            which.resource: Watching(str(which), dice=dice, patience=patience)
            for which in selections
        }
        self._known: dict[Resource, set[_Key]] = {which.resource: set() for which in selections}
        self.denied: dict[Resource, str] = {}
        self._stop = asyncio.Event()

    def __repr__(self) -> str:
        return f"KubeWatcher({', '.join(map(repr, self.watchings.values()))})"

    async def run(self) -> None:
        """Follow until one of the kinds that are not optional is denied."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._follow(which, self.watchings[resource]))
                for resource, which in self._followed.items()
            ]
            await self._stop.wait()
            for task in tasks:
                task.cancel()

    @property
    def settled(self) -> bool:
        """Whether of each kind it is known what there is, or that it is not shown."""
        return not self.unsettled()

    def unsettled(self) -> list[str]:
        """Return the kinds of which nothing is known yet."""
        return [str(r) for r, watching in self.watchings.items() if not watching.settled]

    def proven_s(self) -> float | None:
        """Return when the whole view was last known to be true (monotonic); None = never."""
        proofs = [watching.proven_s for watching in self.watchings.values() if watching.shown]
        known = [proof for proof in proofs if proof is not None]
        return min(known) if known and len(known) == len(proofs) else None

    def reasons(self, *, after_s: float) -> list[str]:
        """Return why kinds that the server shows have not been followed for so long, in words."""
        now = self._clock.monotonic_s()
        return [
            f"{self._followed[resource]}: {watching.reason}"
            for resource, watching in self.watchings.items()
            if watching.shown
            and watching.reason
            and (watching.proven_s is None or now - watching.proven_s > after_s)
        ]

    # ------------------------------------------------------------ one kind

    async def _follow(self, which: Selection, watching: Watching) -> None:
        told = ""
        while True:
            now = self._clock.monotonic_s()
            if watching.next_s > now:
                await asyncio.sleep(watching.next_s - now)
            command = watching.ask(self._clock.monotonic_s())
            try:
                if isinstance(command, List):
                    await self._list(which, watching)
                else:
                    await self._watch(which, watching, command)
            except Gone:
                watching.expired(self._clock.monotonic_s())
            except (Forbidden, NotFound) as error:
                self._refused(which, watching, error)
            except Throttled as error:
                now, wait_s = self._clock.monotonic_s(), error.retry_after_s
                watching.broken(error.message, now, retry_after_s=wait_s)
            except KubeError as error:
                watching.broken(error.message, self._clock.monotonic_s())
            if watching.reason != told:
                told = watching.reason
                log.info("%s: %s", which, told or "followed again")

    def _refused(self, which: Selection, watching: Watching, error: KubeError) -> None:
        now = self._clock.monotonic_s()
        if not (which.optional and isinstance(error, NotFound)):
            watching.broken(error.message, now)
            self.denied[which.resource] = error.message
            self._stop.set()
            return
        watching.refused(error.message, now)
        self._view.replace(which.resource.kind, ())
        self._known[which.resource].clear()
        self.on_change()

    async def _list(self, which: Selection, watching: Watching) -> None:
        """Take a list page by page, so that neither memory nor a long turn of the event loop is
        spent on it. Until its end the view also holds what is gone: it promises too little then,
        never too much."""
        known, listed, version = self._known[which.resource], set[_Key](), ""
        async for page in self._api.pages(which):
            for obj in page.items:
                listed.add(key := _key_of(obj))
                known.add(key)
                self._view.apply(which.resource.kind, "ADDED", obj)
            version = page.version
            await asyncio.sleep(0)
        for namespace, name in known - listed:
            gone = {"metadata": {"namespace": namespace, "name": name}}
            self._view.apply(which.resource.kind, "DELETED", gone)
        self._known[which.resource] = listed
        watching.listed(version, self._clock.monotonic_s())
        self.on_change()

    async def _watch(self, which: Selection, watching: Watching, command: Watch) -> None:
        changes = self._api.watch(which, command.version, timeout_s=command.timeout_s)
        async with aclosing(changes):
            async for change in changes:
                if change.type != "BOOKMARK":
                    self._note(which.resource, change)
                    self._view.apply(which.resource.kind, change.type, change.obj)
                    self.on_change()
                watching.heard(change.version, self._clock.monotonic_s())
        watching.ended(self._clock.monotonic_s())

    def _note(self, resource: Resource, change: Change) -> None:
        key, known = _key_of(change.obj), self._known[resource]
        (known.discard if change.type == "DELETED" else known.add)(key)


def _key_of(obj: dict[str, Any]) -> _Key:
    metadata = obj.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
