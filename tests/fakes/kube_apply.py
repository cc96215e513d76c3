"""Who set which field of an object, and server-side apply by it.

https://kubernetes.io/docs/reference/using-api/server-side-apply/. Fields are paths whose steps are
written as in `fieldsV1`: "f:NAME" for a key, "k:{...}" for an element of a list with keys. Lists
that are not in LIST_KEYS are atomic, and so are all lists of custom resources.
"""

import copy
import json
from typing import Any

from tests.fakes.kube_kinds import Kind, Obj, Refusal

Path = tuple[str, ...]
LIST_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "conditions": ("type",),
}
SERVER_OWNED = {
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "managedFields", "selfLink", "generateName",
}  # fmt: skip


def apply(kind: Kind, live: Obj, applied: Obj, manager: str, *, force: bool) -> Obj:
    """The live object after an apply; raises Refusal 409 that names the other managers."""
    wanted = leaves(kind, applied)
    before = owners(live)
    me = (manager, "Apply", "")
    conflicts = [
        (other[0], path)
        for other, paths in before.items()
        if other != me
        for path in sorted(paths & wanted)
        if path[-1] != "." and value_at(live, path) != value_at(applied, path)
    ]
    if conflicts and not force:
        raise _conflict(conflicts)
    lost = {path for _, path in conflicts}
    after = {other: paths - lost for other, paths in before.items() if other != me}
    kept = set().union(*after.values())
    merged = copy.deepcopy(live)
    dropped = before.get(me, set()) - wanted - kept
    for path in sorted(dropped, key=len, reverse=True):
        _remove(merged, path)
    _merge(kind, merged, applied)
    after[me] = wanted
    _write(merged, kind, after)
    return merged


def note_update(kind: Kind, old: Obj, new: Obj, manager: str, subresource: str = "") -> None:
    """Give the fields that an update changed to its manager."""
    changed = {
        path
        for path in leaves(kind, new)
        if path[-1] == "." or value_at(new, path) != value_at(old, path)
    }
    changed -= {path for path in changed if path[-1] == "." and _has(old, path[:-1])}
    gone = leaves(kind, old) - leaves(kind, new)
    me = (manager, "Update", subresource)
    after = {who: paths - changed - gone for who, paths in owners(old).items()}
    after[me] = after.get(me, set()) | changed
    _write(new, kind, after)


def leaves(kind: Kind, obj: Obj) -> set[Path]:
    """The paths of all fields that an object sets."""
    found: set[Path] = set()
    for key, value in obj.items():
        if key == "metadata":
            rest = {k: v for k, v in value.items() if k not in SERVER_OWNED}
            _leaves(kind, rest, ("f:metadata",), found)
        elif key not in ("apiVersion", "kind"):
            _leaves(kind, value, (f"f:{key}",), found)
    return {path for path in found if path != ("f:metadata",)}


def owners(obj: Obj) -> dict[tuple[str, str, str], set[Path]]:
    """Who manages which fields: by manager, operation and subresource."""
    found: dict[tuple[str, str, str], set[Path]] = {}
    for entry in obj.get("metadata", {}).get("managedFields") or []:
        key = (entry["manager"], entry["operation"], entry.get("subresource", ""))
        found[key] = set(_paths(entry["fieldsV1"], ()))
    return found


def value_at(obj: Any, path: Path) -> Any:
    """The value at a path, None if there is none."""
    for step in path:
        if step == ".":
            return obj
        if step.startswith("f:"):
            obj = obj.get(step[2:]) if isinstance(obj, dict) else None
        else:
            obj = _element(obj, json.loads(step[2:]))
        if obj is None:
            return None
    return obj


def _has(obj: Obj, path: Path) -> bool:
    return value_at(obj, path) is not None


def _element(items: Any, key: Obj) -> Any:
    for item in items if isinstance(items, list) else ():
        if _key(item, tuple(key)) == key:
            return item
    return None


def _list_keys(kind: Kind, step: str, items: list[Any]) -> tuple[str, ...]:
    if kind.group == "ray.io" or not items or not all(isinstance(i, dict) for i in items):
        return ()
    keys: tuple[str, ...]
    if step == "f:ports":
        keys = ("port", "protocol") if kind.kind == "Service" else ("containerPort", "protocol")
    else:
        keys = LIST_KEYS.get(step[2:], ())
    return keys if keys and all(keys[0] in item for item in items) else ()


def _key(item: Obj, keys: tuple[str, ...]) -> Obj:
    return {name: item.get(name, "TCP" if name == "protocol" else None) for name in keys}


def _leaves(kind: Kind, value: Any, path: Path, found: set[Path]) -> None:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            _leaves(kind, inner, (*path, f"f:{key}"), found)
        return
    if isinstance(value, list) and (keys := _list_keys(kind, path[-1], value)):
        for item in value:
            place = (*path, "k:" + json.dumps(_key(item, keys), separators=(",", ":")))
            found.add((*place, "."))
            _leaves(kind, item, place, found)
        return
    found.add(path)


def _merge(kind: Kind, into: Obj, new: Obj) -> None:
    for key, value in new.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(kind, old, value)
        elif isinstance(value, list) and (keys := _list_keys(kind, f"f:{key}", value)):
            items = into.setdefault(key, [])
            for item in value:
                known = _element(items, _key(item, keys))
                if known is None:
                    items.append(copy.deepcopy(item))
                else:
                    _merge(kind, known, item)
        else:
            into[key] = copy.deepcopy(value)


def _remove(obj: Obj, path: Path) -> None:
    if path[-1] == ".":
        items, element = value_at(obj, path[:-2]), value_at(obj, path[:-1])
        if isinstance(items, list) and element is not None:
            items.remove(element)
        return
    parent = value_at(obj, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1][2:], None)


def _conflict(conflicts: list[tuple[str, Path]]) -> Refusal:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{manager}"',
            "field": "." + ".".join(step.removeprefix("f:") for step in path),
        }
        for manager, path in conflicts
    ]
    told = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    number = f"{len(causes)} conflict" + ("s" if len(causes) > 1 else "")
    return Refusal(409, "Conflict", f"Apply failed with {number}: {told}", causes=causes)


def _write(obj: Obj, kind: Kind, after: dict[tuple[str, str, str], set[Path]]) -> None:
    known = {
        (e["manager"], e["operation"], e.get("subresource", "")): e
        for e in obj["metadata"].get("managedFields") or []
    }
    entries: list[Obj] = []
    for (manager, operation, subresource), paths in after.items():
        if not paths:
            continue
        entry: Obj = {
            "manager": manager,
            "operation": operation,
            "apiVersion": kind.api_version,
            "time": known.get((manager, operation, subresource), {}).get(
                "time", obj["metadata"]["creationTimestamp"]
            ),
            "fieldsType": "FieldsV1",
            "fieldsV1": _tree(paths),
        }
        if subresource:
            entry["subresource"] = subresource
        entries.append(entry)
    obj["metadata"]["managedFields"] = entries


def _tree(paths: set[Path]) -> Obj:
    tree: Obj = {}
    for path in sorted(paths):
        place = tree
        for step in path:
            place = place.setdefault(step, {})
    return tree


def _paths(tree: Obj, path: Path) -> list[Path]:
    if not tree:
        return [path]
    return [found for step, inner in tree.items() for found in _paths(inner, (*path, step))]
