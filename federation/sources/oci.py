"""Artifacts of a registry: oci://registry/repository:tag, or …@sha256:digest.

Input: an artifact whose layers are files, as `oras push` makes it (each is titled with a path).
Output: its files; the manifest's digest is the revision, and every byte is checked against it.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.contract.errors import Conflict, Invalid
from federation.sources.base import Opened, Progress, Wanted
from federation.sources.blobs import Blob, BlobCache
from federation.sources.docker_login import login_for
from federation.sources.oci_client import OciClient, Repository
from federation.sources.uri import SourceUri, malformed
from federation.sources.view import check_names, linked

_REGISTRY = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?")
_NAME = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
_PACKED = ("io.deis.oras.content.unpack",)
_MAX_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class _Reference:
    repository: Repository
    tag: str
    digest: str

    def __str__(self) -> str:
        at = f"@{self.digest}" if self.digest else ""
        tag = f":{self.tag}" if self.tag else ""
        return f"oci://{self.repository.registry}/{self.repository.name}{tag}{at}"


@dataclass(frozen=True, slots=True)
class _Layer:
    path: str
    digest: str
    size: int


@contextmanager
def open_oci(
    uri: SourceUri, *, cache: Path, progress: Progress, wanted: Wanted
) -> Iterator[Opened]:
    """Fetch an artifact. Raises NotFound, PermissionDenied, Unavailable, Exhausted, and Invalid if
    its bytes have another digest or its layers are not files."""
    asked = _reference(uri)
    client = OciClient(asked.repository, login_for(asked.repository.registry))
    pinned, manifest = _manifest(client, asked)
    source = str(pinned)
    layers = _layers(manifest, source)
    picked = set(wanted.pick((layer.path for layer in layers), source))
    layers = [layer for layer in layers if layer.path in picked]
    check_names((layer.path for layer in layers), source)
    blobs = BlobCache(cache)
    files: dict[str, Path] = {}
    done, total = 0, sum(layer.size for layer in layers)
    for layer in layers:
        blob = Blob(
            identity=("sha256", layer.digest),
            size=layer.size,
            name=f"{layer.path!r} of {source}",
            sha256=layer.digest.removeprefix("sha256:"),
        )

        def told(here: int, before: int = done, path: str = layer.path) -> None:
            progress(before + here, total, path)

        def read(start: int, digest: str = layer.digest) -> Iterator[bytes]:
            return client.blob(digest, start)

        files[layer.path] = blobs.fetch(blob, read, told)
        done += layer.size
    said = {layer.path: layer.digest.removeprefix("sha256:") for layer in layers}
    with linked(files, cache, source) as directory:
        yield Opened(directory=directory, source=source, revision=pinned.digest, sha256=said)


def _reference(uri: SourceUri) -> _Reference:
    rest, at, digest = uri.body.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise malformed(uri, "a digest is sha256: and 64 hexadecimal digits")
    registry, _, path = rest.partition("/")
    name, colon, tag = path.partition(":")
    if not _REGISTRY.fullmatch(registry) or not _NAME.fullmatch(name) or ".." in uri.body:
        raise malformed(uri, "registry and repository are not both there, or not in lower case")
    if colon and not _TAG.fullmatch(tag):
        raise malformed(uri, f"{tag!r} cannot be a tag")
    if not tag and not digest:
        raise malformed(uri, "a tag or a digest is missing")
    if registry == "docker.io" and "/" not in name:
        name = f"library/{name}"
    return _Reference(Repository(registry, name), tag, digest)


def _manifest(client: OciClient, asked: _Reference) -> tuple[_Reference, dict[str, Any]]:
    """Return the artifact's manifest and the reference with its digest."""
    data = client.manifest(asked.digest or asked.tag)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if asked.digest and asked.digest != digest:
        raise Invalid(f"{asked} has another digest: {digest}.", reason="wrong-bytes")
    pinned = _Reference(asked.repository, asked.tag, digest)
    manifest = _json(data, str(pinned))
    if "manifests" in manifest:
        listed = manifest["manifests"]
        only = listed[0] if isinstance(listed, list) and len(listed) == 1 else {}
        if not _DIGEST.fullmatch(str(only.get("digest", ""))):
            raise Invalid(
                f"{pinned} is a list of several artifacts.", hint="Name one by its digest."
            )
        inner = client.manifest(only["digest"])
        if f"sha256:{hashlib.sha256(inner).hexdigest()}" != only["digest"]:
            raise Invalid(f"{pinned} lists an artifact of another digest.", reason="wrong-bytes")
        manifest = _json(inner, str(pinned))
    return pinned, manifest


def _json(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Invalid(f"the manifest of {what} is malformed.")
    return document


def _layers(manifest: dict[str, Any], source: str) -> list[_Layer]:
    listed = manifest.get("layers")
    if not isinstance(listed, list) or not 0 < len(listed) <= _MAX_LAYERS:
        raise Invalid(f"{source} has no layers, or too many.")
    found: dict[str, _Layer] = {}
    for each in listed:
        layer = _layer(each, source)
        if found.setdefault(layer.path, layer) != layer:
            raise Conflict(f"{source} has two layers titled {layer.path!r}.")
    return list(found.values())


def _layer(each: Any, source: str) -> _Layer:
    notes = (each.get("annotations") or {}) if isinstance(each, dict) else {}
    if not isinstance(each, dict) or not isinstance(notes, dict):
        raise Invalid(f"the manifest of {source} is malformed.")
    digest, size = str(each.get("digest", "")), each.get("size")
    if not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise Invalid(f"{source} has a layer without a SHA-256 or a size.")
    path = next((notes[title] for title in _TITLES if isinstance(notes.get(title), str)), "")
    kind = str(each.get("mediaType", ""))
    if any(str(notes.get(mark)).lower() == "true" for mark in _PACKED) or "+gzip" in kind:
        raise Invalid(
            f"{source} has a layer that is an archive ({path or digest[:19]}).",
            hint="Push the files themselves: oras push REGISTRY/NAME:TAG model.yaml model.onnx …",
        )
    if not path:
        raise Invalid(
            f"{source} is not a set of files: it has a layer without a title "
            f"({kind or digest[:19]}).",
            hint="A package is what `oras push REGISTRY/NAME:TAG FILES…` makes.",
        )
    return _Layer(path, digest, size)
