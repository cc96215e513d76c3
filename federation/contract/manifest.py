"""The manifest of a package: which files, how long, which digests; and its own digest.

Input: a directory with a package, or the canonical bytes of a manifest. Output: a Manifest, its
canonical bytes (JSON, sorted keys, no spaces) and their BLAKE3, which names the content everywhere.
"""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import msgspec
from blake3 import blake3

from federation.contract.errors import Invalid
from federation.contract.package import is_safe_path
from federation.contract.types import FileEntry, Manifest

MAX_FILES = 10_000
_READ_BYTES = 1 << 20


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest."""
    return json.dumps(asdict(manifest), sort_keys=True, separators=(",", ":")).encode()


def manifest_digest(manifest: Manifest) -> str:
    """Return the BLAKE3 of the canonical bytes, in hex."""
    return blake3(manifest_bytes(manifest)).hexdigest()


def parse_manifest(data: bytes) -> Manifest:
    """Parse canonical bytes and check every path; raises Invalid."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the manifest is malformed: {error}.") from None
    return check_manifest(manifest)


def check_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest if its paths are safe, unique and ordered; raises Invalid."""
    paths = [entry.path for entry in manifest.files]
    for entry in manifest.files:
        if not is_safe_path(entry.path):
            raise Invalid(f"the package names a file outside of itself: {entry.path!r}.")
        if entry.size < 0 or len(entry.blake3) != 64 or len(entry.sha256) != 64:
            raise Invalid(f"the manifest's entry of {entry.path!r} is malformed.")
    if sorted(set(paths)) != paths:
        raise Invalid("the manifest's files must be unique and ordered by path.")
    if len(paths) > MAX_FILES:
        raise Invalid(f"the package has {len(paths)} files; at most {MAX_FILES} are allowed.")
    return manifest


def scan_directory(directory: Path, model: str) -> Manifest:
    """Read and hash every file below `directory`; raises Invalid on links and special files."""
    entries = []
    for root, folders, names in os.walk(directory):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        for name in sorted([*names, *(f for f in folders if Path(root, f).is_symlink())]):
            path = Path(root, name)
            relative = path.relative_to(directory).as_posix()
            if path.is_symlink() or not path.is_file():
                raise Invalid(
                    f"{relative!r} is a link or a special file.",
                    hint="Put the file itself into the package.",
                )
            entries.append(_entry(path, relative))
    manifest = Manifest(model=model, files=tuple(sorted(entries, key=lambda e: e.path)))
    return check_manifest(manifest)


def _entry(path: Path, relative: str) -> FileEntry:
    strong, classic, size = blake3(), hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            strong.update(block)
            classic.update(block)
            size += len(block)
    return FileEntry(
        path=relative, size=size, blake3=strong.hexdigest(), sha256=classic.hexdigest()
    )
