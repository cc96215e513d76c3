"""What a push must be before it becomes a version.

Input: a package as it was sent. Output: its digest and what it may do to an engine, or Invalid,
MissingChunks. Everything that a decider cannot see, because it lies in the store, is checked here.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from blake3 import blake3

from federation.api.errors import MissingChunks
from federation.artifacts.base import ArtifactStore
from federation.contract.errors import Invalid
from federation.contract.formats import carries_code
from federation.contract.manifest import (
    MAX_MANIFEST_BYTES,
    check_manifest,
    chunks_of,
    distinct_chunks,
    manifest_bytes,
)
from federation.contract.names import did_you_mean
from federation.contract.package import PACKAGE_FILE, ModelPackage, parse_package
from federation.contract.release import Envelope
from federation.contract.types import FileEntry, Manifest

_AT_ONCE = 50_000  # chunks asked for in one call of the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A package: the text of its model.yaml, and the manifest of all its files (it included).

    `release` is what the owner says of it; its signatures must be good, or it has none.
    """

    package: str
    manifest: Manifest
    source: str = ""
    release: Envelope | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A push that fits together; `data` are the canonical bytes of its manifest."""

    package: ModelPackage
    data: bytes
    digest: str
    carries_code: bool


async def check_push(name: str, push: Push, store: ArtifactStore) -> Checked:
    """Return what is pushed as a version of model `name`.

    Raises Invalid unless path, model.yaml and manifest speak of one and the same package of allowed
    formats, MissingChunks if some of it is not stored.
    """
    package = parse_package(push.package)
    data = await asyncio.to_thread(_checked_bytes, push.manifest)
    if not name == package.name == push.manifest.model:
        raise Invalid(
            f"the path names model {name!r}, {PACKAGE_FILE} {package.name!r}, "
            f"the manifest {push.manifest.model!r}.",
            hint="They must be equal.",
        )
    _check_files(package, push)
    code = carries_code((entry.path for entry in push.manifest.files), package)
    await _check_chunks(push.manifest, store)
    digest = blake3(data).hexdigest()
    return Checked(package=package, data=data, digest=digest, carries_code=code)


def _checked_bytes(manifest: Manifest) -> bytes:
    data = manifest_bytes(check_manifest(manifest))
    if len(data) > MAX_MANIFEST_BYTES:
        raise Invalid(f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes.")
    return data


def _check_files(package: ModelPackage, push: Push) -> None:
    files = {entry.path: entry for entry in push.manifest.files}
    entry = files.get(PACKAGE_FILE)
    if entry is None or not _is_file(entry, push.package.encode()):
        raise Invalid(
            f"the manifest's {PACKAGE_FILE} is not the one that was sent as package.",
            hint="The file changed while it was pushed: push again.",
        )
    if package.file and package.file not in files:
        raise Invalid(
            f"{PACKAGE_FILE} names {package.file!r}, which is not in the package.",
            hint=did_you_mean(package.file, files),
        )


def _is_file(entry: FileEntry, data: bytes) -> bool:
    """Return whether an entry's digest and all its chunks are those of these bytes."""
    at = 0
    for chunk in chunks_of(entry):
        if blake3(data[at : at + chunk.length]).digest() != chunk.digest:
            return False
        at += chunk.length
    return entry.blake3 == blake3(data).hexdigest()


async def _check_chunks(manifest: Manifest, store: ArtifactStore) -> None:
    """Raise MissingChunks, or Invalid if a chunk has another length than the manifest says.

    The question also keeps them from being collected until the version is there.
    """
    chunks = list(distinct_chunks(manifest).items())
    missing: list[str] = []
    for start in range(0, len(chunks), _AT_ONCE):
        part = chunks[start : start + _AT_ONCE]
        digests = [digest for digest, _ in part]
        absent = await store.missing(digests)
        missing += _names(d for d, gone in zip(digests, absent, strict=True) if gone)
        lengths = await store.lengths(digests)
        for (digest, told), length in zip(part, lengths, strict=True):
            if length not in (0, told):
                raise Invalid(f"chunk {digest.hex()} has {length} bytes, the manifest says {told}.")
    if missing:
        raise MissingChunks(missing)


def _names(digests: Iterable[bytes]) -> list[str]:
    return [digest.hex() for digest in digests]
