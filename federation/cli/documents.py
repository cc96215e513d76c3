"""Documents of the operator API: read strictly from YAML, looked into, compared.

Input: text that a user wrote, or documents as the API answers them. Output: Wanted objects whose
spec was checked against the contract, with the line of every mistake.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
import yaml

from federation.contract.errors import Invalid
from federation.contract.names import did_you_mean
from federation.contract.resources import API_VERSION, KINDS, Kind, kind_of
from federation.contract.strict_yaml import Document, load_documents

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    name: str
    resourceVersion: int | None = None  # noqa: N815 - as in the document
    generation: int | None = None
    createdAt: str | None = None  # noqa: N815 - as in the document


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    """The keys of a document; a status that was read back is allowed, and ignored."""

    apiVersion: str  # noqa: N815 - as in the document
    kind: str
    metadata: _Metadata
    spec: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One object as a user's file wants it. `spec` is checked and has all defaults filled in."""

    kind: Kind
    name: str
    spec: object
    resource_version: int | None
    source: str  # file and line

    @property
    def title(self) -> str:
        """Return `cluster/eu-west`."""
        return title(self.kind, self.name)


def title(kind: Kind, name: str) -> str:
    """Return how an object is called in messages and by `-o name`."""
    return f"{kind.name.lower()}/{name}"


def parse_yaml(text: str, *, source: str) -> list[Document]:
    """Parse YAML documents; raises Invalid with the line of the first mistake."""
    try:
        return load_documents(text, source=source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        words = getattr(error, "problem", None) or str(error)
        raise Invalid(f"{source}{line}: not valid YAML: {words}.") from None


def parse_wanted(text: str, *, source: str) -> list[Wanted]:
    """Read all documents of a file; raises Invalid on the first mistake."""
    wanted = [_wanted(document) for document in parse_yaml(text, source=source)]
    if not wanted:
        raise Invalid(f"{source}: there is no document in it.")
    return wanted


def in_order(wanted: Iterable[Wanted]) -> list[Wanted]:
    """Order objects so that what others refer to comes first; raises Invalid on duplicates."""
    seen: dict[str, Wanted] = {}
    for one in wanted:
        if one.title in seen:
            raise Invalid(
                f"{one.source}: {one.title} is there twice, first at {seen[one.title].source}.",
                hint="Keep one of them.",
            )
        seen[one.title] = one
    return sorted(seen.values(), key=lambda one: KINDS.index(one.kind))


def _wanted(document: Document) -> Wanted:
    where = f"{document.source} line {document.line(())}"
    for key in ("apiVersion", "kind", "metadata"):
        if key not in document.value:
            raise Invalid(f"{where}: {key} is missing.", hint=_EXAMPLE[key])
    if isinstance(document.value["metadata"], dict) and "name" not in document.value["metadata"]:
        line = document.line(("metadata",))
        raise Invalid(f"{document.source} line {line}: metadata.name is missing.")
    envelope: _Envelope = document.convert(_Envelope)
    if envelope.apiVersion != API_VERSION:
        raise Invalid(
            f"{document.source} line {document.line(('apiVersion',))}: unknown apiVersion "
            f"{envelope.apiVersion!r}.",
            hint=_EXAMPLE["apiVersion"],
        )
    kind, spec = _writable(envelope.kind, f"{document.source} line {document.line(('kind',))}")
    if "spec" not in document.value:
        document.value["spec"] = {}
    return Wanted(
        kind=kind,
        name=envelope.metadata.name,
        spec=document.convert(spec, at=("spec",)),
        resource_version=envelope.metadata.resourceVersion,
        source=where,
    )


_EXAMPLE = {
    "apiVersion": f"Write apiVersion: {API_VERSION}",
    "kind": "Write kind: Region, Cluster, Model, Deployment, Rollout, Prefetch or Tenant.",
    "metadata": "Write metadata: {name: ...}.",
}


def _writable(word: str, where: str) -> tuple[Kind, type]:
    kind = kind_of(word)
    if kind is None or kind.name != word:
        hint = did_you_mean(word, [k.name for k in KINDS if k.spec])
        raise Invalid(f"{where}: unknown kind {word!r}.", hint=hint)
    if kind.spec is None:
        raise Invalid(f"{where}: a {kind.name} is made by the system, not by a file.")
    return kind, kind.spec


# ------------------------------------------------------------ specs


def live_spec(kind: Kind, document: Json) -> object:
    """Return the spec of a document of the API, with defaults filled in, to compare and to change.

    Keys of a newer control plane are left out; raises Invalid when the rest does not fit.
    """
    if kind.spec is None:
        raise Invalid(f"a {kind.name} has no spec.")
    try:
        return msgspec.convert(document.get("spec") or {}, kind.spec, strict=True)
    except msgspec.ValidationError as error:
        name = look(document, "metadata", "name")
        raise Invalid(
            f"this fed cannot read the {kind.name} {name!r} of the control plane: {error}.",
            hint="Use the version of fed that fits it; see `fed version`.",
        ) from None


def plain(spec: object) -> Json:
    """Return a spec as plain values for JSON or YAML."""
    values: Json = msgspec.to_builtins(spec)
    return values


def body(kind: Kind, name: str, spec: object, resource_version: int | None = None) -> Json:
    """Return the document to PUT."""
    metadata: Json = {"name": name}
    if resource_version is not None:
        metadata["resourceVersion"] = resource_version
    return {
        "apiVersion": API_VERSION,
        "kind": kind.name,
        "metadata": metadata,
        "spec": plain(spec),
    }


# ------------------------------------------------------------ looking into documents


def look(document: object, *path: str) -> Any:
    """Return the value at `path`, or None where any step is missing."""
    for step in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(step)
    return document


def look_map(document: object, *path: str) -> Json:
    """Return the mapping at `path`, or an empty one."""
    found = look(document, *path)
    return found if isinstance(found, dict) else {}


def look_list(document: object, *path: str) -> list[Any]:
    """Return the list at `path`, or an empty one."""
    found = look(document, *path)
    return found if isinstance(found, list) else []


def name_of(document: Json) -> str:
    """Return metadata.name, or "" where there is none."""
    return str(look(document, "metadata", "name") or "")
