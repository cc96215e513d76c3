"""What is new in a version of a model, compared with what is there already.

Input: two manifests. Output: which files and chunks differ, and how many bytes would travel; which
old chunks a weight delta can be taken against. Plain functions of the manifests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from federation.contract.manifest import Chunk, chunks_of, distinct_chunks
from federation.contract.types import FileEntry, Manifest


class Change(StrEnum):
    """What happened to a file."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    RENAMED = "renamed"
    EQUAL = "equal"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDelta:
    """One file of either version. `travels` counts bytes of chunks that neither the old version nor
    a file before it has. `was` is the old path of a renamed file."""

    path: str
    change: Change
    size: int
    travels: int = 0
    was: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The difference of two versions. `bytes` and `chunks` would travel to a cluster that has the
    old one; the manifest itself is not counted."""

    files: tuple[FileDelta, ...]
    bytes: int
    chunks: int
    size: int


def compare(old: Manifest | None, new: Manifest) -> Delta:
    """Return what is new in `new`; None stands for a cluster that has nothing."""
    before = {entry.path: entry for entry in old.files} if old else {}
    there = set(distinct_chunks(old)) if old else set()
    vanished = _by_content(before, new)
    files, total, count = [], 0, 0
    for entry in new.files:
        fresh = {c.digest: c.length for c in chunks_of(entry) if c.digest not in there}
        there.update(fresh)
        travels = sum(fresh.values())
        total, count = total + travels, count + len(fresh)
        files.append(_file(entry, before.get(entry.path), vanished, travels))
    taken = {delta.was for delta in files} | {entry.path for entry in new.files}
    gone = (
        FileDelta(path=entry.path, change=Change.REMOVED, size=entry.size)
        for path, entry in before.items()
        if path not in taken
    )
    ordered = tuple(sorted((*files, *gone), key=lambda delta: delta.path))
    return Delta(files=ordered, bytes=total, chunks=count, size=new.size)


def new_chunks(old: Manifest, new: Manifest) -> dict[bytes, int]:
    """Return the chunks that only the new version has, digest to length, in order of first use."""
    there = distinct_chunks(old)
    return {d: length for d, length in distinct_chunks(new).items() if d not in there}


def bases(old: Manifest, new: Manifest) -> dict[bytes, bytes]:
    """Return against which old chunk each new one can be told: that of the same path, offset and
    length. There are many if `new` was cut like `old` (see `scan.scan_directory`)."""
    there = distinct_chunks(old)
    found: dict[bytes, bytes] = {}
    before = {entry.path: entry for entry in old.files}
    for entry in new.files:
        if (was := before.get(entry.path)) is None or was.blake3 == entry.blake3:
            continue
        at = dict(_by_offset(was))
        for offset, chunk in _by_offset(entry):
            base = at.get(offset)
            if chunk.digest not in there and base is not None and base.length == chunk.length:
                found.setdefault(chunk.digest, base.digest)
    return found


def _by_content(before: dict[str, FileEntry], new: Manifest) -> dict[str, list[str]]:
    """Return the old paths that the new version lacks, by the file's digest."""
    paths = {entry.path for entry in new.files}
    found: dict[str, list[str]] = {}
    for path, entry in before.items():
        if path not in paths and entry.size:
            found.setdefault(entry.blake3, []).append(path)
    return found


def _file(
    entry: FileEntry, was: FileEntry | None, vanished: dict[str, list[str]], travels: int
) -> FileDelta:
    old_path = ""
    if was is not None:
        change = Change.EQUAL if was.blake3 == entry.blake3 else Change.CHANGED
    elif old_paths := vanished.get(entry.blake3):
        change, old_path = Change.RENAMED, old_paths.pop(0)
    else:
        change = Change.ADDED
    return FileDelta(path=entry.path, change=change, size=entry.size, travels=travels, was=old_path)


def _by_offset(entry: FileEntry) -> Iterator[tuple[int, Chunk]]:
    offset = 0
    for chunk in chunks_of(entry):
        yield offset, chunk
        offset += chunk.length
