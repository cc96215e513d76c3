"""What lies in a folder against what should.

Input: an open folder, the entries of a manifest. Output: a folder without anything else; a folder
whose names are durable; a verdict on a published package. No symbolic link is followed.
"""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from blake3 import blake3

from edge_agent.sync.layout import Folder
from federation.contract.errors import Invalid
from federation.contract.types import FileEntry

CACHE = "__pycache__"  # engines write it, also into a published package
_BLOCK = 1 << 20


def folders_of(entries: Sequence[FileEntry]) -> set[str]:
    """Return the folders that the files of a package lie in."""
    parents = (PurePosixPath(entry.path).parents for entry in entries)
    return {str(parent) for chain in parents for parent in chain} - {"."}


def clean(folder: Folder, entries: Sequence[FileEntry]) -> None:
    """Remove what does not belong to a package: links, other files, folders; raises OSError."""
    files, folders = {entry.path for entry in entries}, folders_of(entries)
    for path, about in folder.walk():
        if path in files and stat.S_ISREG(about.st_mode):
            continue
        if path in folders and stat.S_ISDIR(about.st_mode):
            continue
        with folder.below(path) as parent:
            parent.remove(PurePosixPath(path).name)


def stray(folder: Folder, entries: Sequence[FileEntry]) -> str:
    """Return in words the first thing that differs in kind, name or size, "" if nothing does."""
    sizes, folders = {entry.path: entry.size for entry in entries}, folders_of(entries)
    for path, about in folder.walk():
        if CACHE in PurePosixPath(path).parts and path not in sizes and path not in folders:
            continue
        if stat.S_ISDIR(about.st_mode) and path not in sizes:
            continue
        size = sizes.pop(path, None)
        if size is None:
            return f"{path!r} does not belong to it."
        if not stat.S_ISREG(about.st_mode):
            return f"{path!r} is not a plain file."
        if about.st_size != size:
            return f"{path!r} has {about.st_size} bytes, not {size}."
    return f"{min(sizes)!r} is missing." if sizes else ""


def make_durable(folder: Folder) -> None:
    """fsync every folder below and then this one; raises OSError."""
    for _, _, _, fd in os.fwalk(".", topdown=False, dir_fd=folder.fd):
        os.fsync(fd)


def compare(
    folder: Folder, entries: Sequence[FileEntry], read: Callable[[int, int, int], None]
) -> None:
    """Compare every byte with the manifest; raises Invalid with the first difference, OSError.

    `read` is told (descriptor, offset, length) before each block is read.
    """
    if told := stray(folder, entries):
        raise Invalid(told)
    for entry in entries:
        fd = folder.open_file(entry.path)
        try:
            digest, offset = blake3(), 0
            while offset < entry.size:
                read(fd, offset, min(_BLOCK, entry.size - offset))
                if not (block := os.pread(fd, min(_BLOCK, entry.size - offset), offset)):
                    break
                digest.update(block)
                offset += len(block)
        finally:
            os.close(fd)
        if digest.hexdigest() != entry.blake3:
            raise Invalid(f"{entry.path!r} has other bytes.")
