"""The objects of the fake Kubernetes API server: their versions, their rules, their history.

Every write gets the next resource version and one entry in the history, from which watches are fed.
Compaction forgets the history's beginning: who asks for it gets a 410, as after etcd's.
"""

import asyncio
import copy
import itertools
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.fakes import kube_schemas
from tests.fakes.kube_apply import apply, note_update
from tests.fakes.kube_kinds import Kind, Obj, Refusal, invalid, not_found, too_old
from tests.fakes.kube_selectors import Matches

Key = tuple[str, str]  # namespace ("" without), name


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history."""

    version: int
    kind: Kind
    old: Obj | None
    new: Obj | None

    def seen_by(self, namespace: str, matches: Matches) -> tuple[str, Obj] | None:
        """What a watch with a selector is told; leaving the selection is a deletion."""
        was = self.old is not None and _in(self.old, namespace) and matches(self.old)
        now = self.new is not None and _in(self.new, namespace) and matches(self.new)
        if now:
            assert self.new is not None
            return ("MODIFIED" if was else "ADDED"), self.new
        if was:
            obj = copy.deepcopy(self.new or self.old)
            assert obj is not None
            obj["metadata"]["resourceVersion"] = str(self.version)
            return "DELETED", obj
        return None


def _in(obj: Obj, namespace: str) -> bool:
    return not namespace or obj["metadata"].get("namespace") == namespace


class KubeObjects:
    """All objects of one cluster."""

    def __init__(self) -> None:
        self.version = 1000
        self.compacted = 0
        self._objects: dict[Kind, dict[Key, Obj]] = {}
        self._history: list[Change] = []
        self._pages: dict[str, tuple[int, list[Obj]]] = {}
        self._numbers = itertools.count(1)
        self.waiting: set[asyncio.Event] = set()

    # ------------------------------------------------------------ reading

    def get(self, kind: Kind, namespace: str, name: str) -> Obj:
        found = self._objects.get(kind, {}).get((namespace, name))
        if found is None:
            raise not_found(kind, name)
        return found

    def select(self, kind: Kind, namespace: str, matches: Matches) -> list[Obj]:
        items = self._objects.get(kind, {})
        return [items[k] for k in sorted(items) if _in(items[k], namespace) and matches(items[k])]

    def page(self, items: list[Obj], limit: int, token: str = "") -> tuple[list[Obj], Obj]:
        """One page and the list's metadata; the following pages are of the same version."""
        version = self.version
        if token:
            if token not in self._pages:
                raise too_old("The provided continue parameter is too old")
            version, items = self._pages.pop(token)
        meta: Obj = {"resourceVersion": str(version)}
        if limit and len(items) > limit:
            token = uuid.uuid4().hex
            self._pages[token] = (version, items[limit:])
            meta |= {"continue": token, "remainingItemCount": len(items) - limit}
            items = items[:limit]
        return items, meta

    def since(self, kind: Kind, version: int) -> list[Change]:
        """The changes after a version; raises Refusal 410 if they are forgotten."""
        if version < self.compacted:
            raise too_old(f"{version} ({self.compacted})")
        start = len(self._history)
        while start and self._history[start - 1].version > version:
            start -= 1
        return [change for change in self._history[start:] if change.kind == kind]

    def compact(self) -> None:
        """Forget all history, and all lists that were not read to their end."""
        self.version += 1
        self.compacted = self.version
        self._history.clear()
        self._pages.clear()

    # ------------------------------------------------------------ writing

    def put(self, kind: Kind, obj: Obj) -> Obj:
        """Write an object as it is, status included: for tests, that play controllers."""
        meta = obj.setdefault("metadata", {})
        key = (meta.get("namespace", "") if kind.namespaced else "", meta["name"])
        old = self._objects.get(kind, {}).get(key)
        new = self._dressed(kind, copy.deepcopy(obj), old)
        return self._commit(kind, key, old, new)

    def create(
        self, kind: Kind, namespace: str, obj: Obj, manager: str, *, dry: bool = False
    ) -> Obj:
        meta = obj.setdefault("metadata", {})
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = f"{meta['generateName']}{next(self._numbers):05d}"
        name = meta.get("name", "")
        self._check(kind, namespace, name, obj)
        if (namespace, name) in self._objects.get(kind, {}):
            raise Refusal(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists')
        new = self._new(kind, namespace, obj)
        note_update(kind, {}, new, manager)
        return new if dry else self._commit(kind, (namespace, name), None, new)

    def update(
        self,
        kind: Kind,
        old: Obj,
        new: Obj,
        manager: str,
        *,
        subresource: str = "",
        dry: bool = False,
    ) -> Obj:
        """Replace an object or its status; raises Refusal 409 if it changed since it was read."""
        new = copy.deepcopy(new)
        meta, before = new.setdefault("metadata", {}), old["metadata"]
        name, namespace = before["name"], before.get("namespace", "")
        if meta.get("resourceVersion") and meta["resourceVersion"] != before["resourceVersion"]:
            problem = "the object has been modified; please apply your changes to the latest one"
            text = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {problem}'
            raise Refusal(409, "Conflict", text)
        if subresource == "status":
            new = {**copy.deepcopy(old), "status": new.get("status", {})}
        else:
            _carry_status(kind, old, new)
            self._check(kind, namespace, name, new, old)
        if subresource == "status":
            kube_schemas.check(kind, name, new, old)
        new = self._dressed(kind, new, old)
        if _same(old, new):
            return old
        note_update(kind, old, new, manager, subresource)
        if dry:
            return new
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            self._commit(kind, (namespace, name), old, None)
            return new
        return self._commit(kind, (namespace, name), old, new)

    def apply(
        self, kind: Kind, key: Key, obj: Obj, manager: str, *, force: bool, dry: bool = False
    ) -> tuple[int, Obj]:
        """Server-side apply; returns (201, created) or (200, changed)."""
        namespace, name = key
        old = self._objects.get(kind, {}).get(key)
        obj = copy.deepcopy(obj)
        if kind.status and not (old is None and kind.kind == "Node"):
            obj.pop("status", None)
        self._check(kind, namespace, name, obj, old)
        if old is None:
            new = apply(kind, self._new(kind, namespace, obj), obj, manager, force=True)
            return 201, new if dry else self._commit(kind, key, None, new)
        new = apply(kind, old, obj, manager, force=force)
        _carry_status(kind, old, new)
        self._check(kind, namespace, name, new, old)
        new = self._dressed(kind, new, old)
        if _same(old, new):
            return 200, old
        return 200, new if dry else self._commit(kind, key, old, new)

    def delete(self, kind: Kind, namespace: str, name: str, *, dry: bool = False) -> Obj:
        old = self.get(kind, namespace, name)
        if dry:
            return old
        if old["metadata"].get("finalizers"):
            return self._condemn(kind, old)
        self._commit(kind, (namespace, name), old, None)
        if kind.kind == "Namespace":
            for other, items in list(self._objects.items()):
                for inner_key, inner in list(items.items()):
                    if other.namespaced and inner_key[0] == name:
                        self._commit(other, inner_key, inner, None)
        return old

    def _condemn(self, kind: Kind, old: Obj) -> Obj:
        """Mark an object for deletion: it goes when its last finalizer does."""
        if old["metadata"].get("deletionTimestamp"):
            return old
        new = copy.deepcopy(old)
        meta = new["metadata"]
        meta |= {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": 0}
        if "generation" in meta:
            meta["generation"] += 1
        return self._commit(kind, (meta.get("namespace", ""), meta["name"]), old, new)

    # ------------------------------------------------------------ rules

    def _check(
        self, kind: Kind, namespace: str, name: str, obj: Obj, old: Obj | None = None
    ) -> None:
        """Refuse what the real server would refuse, as far as tests need it."""
        if not name or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
            raise invalid(kind, name, "metadata.name", "a lowercase RFC 1123 subdomain is needed")
        if kind.namespaced and not any(
            k.kind == "Namespace" and (("", namespace) in objs) for k, objs in self._objects.items()
        ):
            raise Refusal(404, "NotFound", f'namespaces "{namespace}" not found')
        if kind.kind == "Deployment":
            _check_deployment(kind, name, obj, old)
        if kind.kind == "Pod" and not obj.get("spec", {}).get("containers"):
            raise invalid(kind, name, "spec.containers", "Required value")
        kube_schemas.check(kind, name, obj, old)
        _check_finalizers(kind, name, obj, old)
        if kind.kind == "RayService" and not obj.get("spec", {}).get("rayClusterConfig"):
            raise invalid(kind, name, "spec.rayClusterConfig", "Required value")

    def _new(self, kind: Kind, namespace: str, obj: Obj) -> Obj:
        new = copy.deepcopy(obj)
        meta = new["metadata"]
        if namespace:
            meta["namespace"] = namespace
        if kind.status and kind.kind != "Node":
            new["status"] = {"phase": "Pending"} if kind.kind == "Pod" else {}
        if kind.kind == "Namespace":
            new["status"] = {"phase": "Active"}
            meta.setdefault("labels", {})["kubernetes.io/metadata.name"] = meta["name"]
        return self._dressed(kind, new, None)

    def _dressed(self, kind: Kind, new: Obj, old: Obj | None) -> Obj:
        """With what only the server writes."""
        new |= {"apiVersion": kind.api_version, "kind": kind.kind}
        meta, before = new["metadata"], (old or {}).get("metadata", {})
        meta["uid"] = before.get("uid") or meta.get("uid") or str(uuid.uuid4())
        meta["creationTimestamp"] = before.get("creationTimestamp") or _now()
        meta["resourceVersion"] = before.get("resourceVersion", "")
        if kind.generation:
            changed = old is not None and old.get("spec") != new.get("spec")
            meta["generation"] = before.get("generation", 1) + changed
        return new

    def _commit(self, kind: Kind, key: Key, old: Obj | None, new: Obj | None) -> Obj:
        self.version += 1
        items = self._objects.setdefault(kind, {})
        if new is None:
            del items[key]
        else:
            new["metadata"]["resourceVersion"] = str(self.version)
            items[key] = new
        self._history.append(Change(self.version, kind, old, new))
        for event in self.waiting:
            event.set()
        result = new or old
        assert result is not None
        return result


def _carry_status(kind: Kind, old: Obj, new: Obj) -> None:
    if kind.status:
        new.pop("status", None)
        if "status" in old:
            new["status"] = copy.deepcopy(old["status"])


def _check_finalizers(kind: Kind, name: str, obj: Obj, old: Obj | None) -> None:
    """What is to be deleted stays so, and nobody else can hold it up any more."""
    before = (old or {}).get("metadata", {})
    if not before.get("deletionTimestamp"):
        return
    obj["metadata"]["deletionTimestamp"] = before["deletionTimestamp"]
    if set(obj["metadata"].get("finalizers") or ()) - set(before.get("finalizers") or ()):
        problem = "Forbidden: no new finalizers can be added if the object is being deleted"
        raise invalid(kind, name, "metadata.finalizers", problem)


def _check_deployment(kind: Kind, name: str, obj: Obj, old: Obj | None) -> None:
    spec: Any = obj.get("spec") or {}
    wanted = (spec.get("selector") or {}).get("matchLabels")
    if not wanted:
        raise invalid(kind, name, "spec.selector", "Required value")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        field = "spec.template.metadata.labels"
        raise invalid(kind, name, field, "`selector` does not match template `labels`")
    if old is not None and old["spec"]["selector"] != spec["selector"]:
        raise invalid(kind, name, "spec.selector", "field is immutable")


def _same(old: Obj, new: Obj) -> bool:
    return _bare(old) == _bare(new)


def _bare(obj: Obj) -> Obj:
    meta = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
    entries = meta.get("managedFields") or []
    meta["managedFields"] = [{k: v for k, v in e.items() if k != "time"} for e in entries]
    return {**obj, "metadata": meta}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
