"""The custom resources as they were seen last.

Input: what the watcher tells, and answers to our own writes. Output: Custom objects; the turns hear
of every change that is not our own.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from federation.bridge.policy.custom import BRIDGED, Bridged, Custom, read
from federation.bridge.policy.pacing import Turns
from federation.runtime.clock import Clock

Obj = dict[str, Any]
Key = tuple[Bridged, str]
_BY_KIND = {bridged.resource.kind: bridged for bridged in BRIDGED}


class Shelf:
    """A view for KubeWatcher."""

    def __init__(self, turns: Turns[Key], clock: Clock) -> None:
        self._turns = turns
        self._clock = clock
        self._objects: dict[Key, Obj] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Custom]:
        return iter([read(bridged, obj) for (bridged, _), obj in self._objects.items()])

    def names(self) -> list[Key]:
        """Return the keys of all objects."""
        return list(self._objects)

    def get(self, key: Key) -> Custom | None:
        """Return one object, None if it is gone."""
        found = self._objects.get(key)
        return read(key[0], found) if found is not None else None

    def replace(self, kind: str, objects: Iterable[Obj]) -> None:
        """Forget all objects of a kind and take these."""
        bridged = _BY_KIND[kind]
        for key in [key for key in self._objects if key[0] is bridged]:
            self.drop(key)
        for obj in objects:
            self.apply(kind, "ADDED", obj)

    def apply(self, kind: str, change: str, obj: Obj) -> None:
        """Take a change as the API server tells it."""
        key = (_BY_KIND[kind], str(obj["metadata"]["name"]))
        if change == "DELETED":
            self.drop(key)
        elif self.take(key, obj):
            self._turns.changed(key, self._clock.monotonic_s())

    def take(self, key: Key, obj: Obj) -> bool:
        """Keep an object unless a newer one is known; returns whether it was news.

        Resource versions of one kind can be compared:
        https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
        """
        held = self._objects.get(key)
        if held is not None and _version(obj) <= _version(held) and _uid(obj) == _uid(held):
            return False
        self._objects[key] = obj
        return True

    def drop(self, key: Key) -> None:
        """Forget an object."""
        self._objects.pop(key, None)
        self._turns.forget(key)


def _version(obj: Obj) -> int:
    text = str(obj["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdecimal() else 0


def _uid(obj: Obj) -> str:
    return str(obj["metadata"].get("uid") or "")
