"""Label and field selectors, as the Kubernetes API takes them in queries.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api and
https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/
"""

import re
from collections.abc import Callable

from tests.fakes.kube_kinds import Kind, Obj, Refusal

Matches = Callable[[Obj], bool]
FIELDS = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "status.phase"),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
    "resourceslices": ("spec.nodeName", "spec.driver"),
}


def selector(kind: Kind, labels: str, fields: str) -> Matches:
    """One test for both selectors; raises Refusal (400)."""
    tests = [_label_test(part) for part in re.split(r",(?![^(]*\))", labels) if part.strip()]
    tests += [_field_test(kind, part) for part in fields.split(",") if part.strip()]
    return lambda obj: all(test(obj) for test in tests)


def _labels(obj: Obj) -> dict[str, str]:
    return obj.get("metadata", {}).get("labels") or {}


def _label_test(part: str) -> Matches:
    part = part.strip()
    if found := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", part):
        key, word, text = found.groups()
        values = {value.strip() for value in text.split(",")}
        if word == "in":
            return lambda obj: _labels(obj).get(key) in values
        return lambda obj: _labels(obj).get(key) not in values
    if found := re.fullmatch(r"([^!=\s]+)\s*(==|=|!=)\s*([^=\s]*)", part):
        key, word, value = found.groups()
        if word == "!=":
            return lambda obj: _labels(obj).get(key) != value
        return lambda obj: _labels(obj).get(key) == value
    if found := re.fullmatch(r"(!?)([^!=\s()]+)", part):
        absent, key = found.groups()
        return lambda obj: (key in _labels(obj)) != bool(absent)
    raise Refusal(400, "BadRequest", f"unable to parse requirement: {part!r}")


def _field_test(kind: Kind, part: str) -> Matches:
    found = re.fullmatch(r"([^!=]+)(==|=|!=)(.*)", part.strip())
    if not found:
        raise Refusal(400, "BadRequest", f"invalid selector: {part!r}")
    path, word, value = found.groups()
    if path not in ("metadata.name", "metadata.namespace", *FIELDS.get(kind.plural, ())):
        raise Refusal(400, "BadRequest", f"field label not supported: {path}")
    return lambda obj: (_text(obj, path) == value) == (word != "!=")


def _text(obj: Obj, path: str) -> str:
    value: object = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, bool) or path == "spec.unschedulable":
        return "true" if value else "false"
    return "" if value is None else str(value)
