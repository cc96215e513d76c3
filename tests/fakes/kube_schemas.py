"""Schemas of our custom resources at the fake Kubernetes API server, as a real one applies them.

Input: the definitions in deploy/kubernetes/crds. Output: refusals of what does not fit: types and
limits (422), CEL rules (422; only where the package `cel` is installed), unknown fields (400 with
strict validation, else dropped).
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

import copy
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator  # type: ignore[import-untyped]

from tests.fakes.kube_kinds import Kind, Obj, Refusal, invalid

CRDS = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "crds"
HAS_CEL = importlib.util.find_spec("cel") is not None


@functools.cache
def definitions() -> dict[str, Obj]:
    """The definitions by the kind that they define."""
    found = {}
    for path in sorted(CRDS.glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        if document["kind"] == "CustomResourceDefinition":
            found[document["spec"]["names"]["kind"]] = document
    return found


def schema_of(kind: Kind) -> Obj | None:
    """The schema of a kind that is defined by us."""
    definition = definitions().get(kind.kind)
    if definition is None:
        return None
    (version,) = definition["spec"]["versions"]
    schema: Obj = version["schema"]["openAPIV3Schema"]
    return schema


def check(kind: Kind, name: str, obj: Obj, old: Obj | None) -> None:
    """Raise Refusal (422) for an object that breaks its schema or one of its rules."""
    schema = schema_of(kind)
    if schema is None:
        return
    for error in Draft4Validator(schema).iter_errors(obj):
        raise invalid(kind, name, ".".join(map(str, error.path)), error.message)
    for path, problem in broken_rules(schema, obj, old):
        raise invalid(kind, name, path or "<nil>", f'Invalid value: "object": {problem}')


def pruned(kind: Kind, obj: Obj, *, strict: bool) -> Obj:
    """The object without unknown fields; raises Refusal (400) for them with strict validation."""
    schema = schema_of(kind)
    if schema is None:
        return obj
    unknown = list(_unknown(schema, {k: v for k, v in obj.items() if k != "metadata"}, ""))
    if unknown and strict:
        text = ", ".join(f'unknown field "{path}"' for path, _ in unknown)
        raise Refusal(400, "BadRequest", f"strict decoding error: {text}")
    new = copy.deepcopy(obj)
    for path, _ in unknown:
        _drop(new, path)
    return new


def _unknown(schema: Obj, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and "properties" in schema:
        for key, inner in value.items():
            place = f"{path}.{key}" if path else key
            if key not in schema["properties"]:
                yield place, inner
            else:
                yield from _unknown(schema["properties"][key], inner, place)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unknown(schema.get("items", {}), inner, f"{path}[{number}]")


def _drop(obj: Obj, path: str) -> None:
    place: Any = obj
    *steps, last = path.replace("]", "").replace("[", ".").split(".")
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place.pop(last, None)


# ------------------------------------------------------------ rules


def rules(schema: Obj, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Obj]]:
    """All rules of a schema with the path of what they are about; "*" is each element."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule
    for key, inner in schema.get("properties", {}).items():
        yield from rules(inner, (*path, key))
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from rules(schema[word], (*path, "*"))


def broken_rules(schema: Obj, obj: Obj, old: Obj | None) -> Iterator[tuple[str, str]]:
    """What breaks which rule; nothing where CEL cannot be evaluated."""
    if not HAS_CEL:
        return
    for path, rule in rules(schema):
        before = list(_at(old, path)) if old is not None else []
        for value in _at(obj, path):
            if "oldSelf" in rule["rule"] and len(before) != 1:
                continue
            context = {"self": value, "oldSelf": before[0] if before else None}
            if not _program(rule["rule"]).execute(context):
                yield ".".join(path), rule["message"]


@functools.cache
def _program(text: str) -> Any:
    import cel

    return cel.compile(text)


def _at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == "*":
        for each in value.values() if isinstance(value, dict) else value or ():
            yield from _at(each, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])
