"""The shape of a model version's document.

Input: none. Output: types whose schemas the OpenAPI document shows; `models` fills them from the
State and from the documents in the artifact store.
"""

from dataclasses import dataclass
from datetime import datetime

from federation.contract.manifest import chunks_of
from federation.contract.package import ModelPackage
from federation.contract.release import Release
from federation.contract.types import FileEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class FileView:
    """One file of a version; `chunks` is their number. The manifest has them all."""

    path: str
    size: int
    blake3: str
    sha256: str
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One immutable version of a model, whole. `release` is what its signers say of it;
    `signed_by` are the owner's keys among them (Ed25519, hex)."""

    model: str
    version: int
    digest: str
    size: int
    source: str
    created_at: datetime
    created_by: str
    package: ModelPackage
    carries_code: bool
    chunker: str
    signed_by: tuple[str, ...]
    release: Release
    files: tuple[FileView, ...]


def file_view(entry: FileEntry) -> FileView:
    """Return a file as it is shown."""
    return FileView(
        path=entry.path,
        size=entry.size,
        blake3=entry.blake3,
        sha256=entry.sha256,
        chunks=sum(1 for _ in chunks_of(entry)),
    )
