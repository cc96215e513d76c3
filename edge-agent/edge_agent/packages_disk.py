"""Files of model packages on disk: written once, verified, made visible whole. Blocking calls only.

Input: entries of a manifest, bytes from a download. Output: files and directories. Nothing here
follows a symbolic link, and nothing is written outside of the directory that was asked for.
"""

import contextlib
import os
import shutil
import stat
from pathlib import Path, PurePosixPath

from blake3 import blake3

from federation.contract.errors import Exhausted, Invalid
from federation.contract.manifest import parse_manifest
from federation.contract.types import FileEntry, Manifest
from federation.runtime.files import fsync_directory, write_atomic

_READ_BYTES = 1 << 20
_RESERVE_BYTES = 64 << 20  # left free beside a package
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class NewFile:
    """A file that is being written; it gets its name only when every byte is right."""

    def __init__(self, part: Path, entry: FileEntry) -> None:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        self._file = os.fdopen(os.open(part, _NEW_FILE, 0o644), "wb")
        self._part = part
        self._entry = entry
        self._hash = blake3()
        self._size = 0

    def __repr__(self) -> str:
        return f"NewFile({self._entry.path}, {self._size} of {self._entry.size} bytes)"

    def write(self, chunk: bytes) -> None:
        """Add bytes; raises Invalid as soon as there are too many."""
        self._size += len(chunk)
        if self._size > self._entry.size:
            raise Invalid(f"{self._entry.path!r} is longer than {self._entry.size} bytes.")
        self._hash.update(chunk)
        self._file.write(chunk)

    def finish(self, target: Path) -> None:
        """Verify, make it durable and give it its name; raises Invalid."""
        if self._size != self._entry.size:
            raise Invalid(
                f"{self._entry.path!r} ended after {self._size} of {self._entry.size} bytes."
            )
        if self._hash.hexdigest() != self._entry.blake3:
            raise Invalid(f"the bytes of {self._entry.path!r} do not match its BLAKE3.")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        remove(target)
        self._part.rename(target)

    def abandon(self) -> None:
        """Remove what was written, unless it has its name already."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def make_room(staging: Path, manifest: Manifest) -> None:
    """Prepare the staging directory; raises Exhausted if the disk is too full for the package."""
    files = staging / "files"
    if files.is_symlink():
        remove(files)
    files.mkdir(parents=True, exist_ok=True)
    here = sum(path.lstat().st_size for path in files.rglob("*") if path.is_file())
    needed, free = manifest.size - here + _RESERVE_BYTES, shutil.disk_usage(staging).free
    if needed > free:
        raise Exhausted(
            f"the disk of {staging} has {free >> 20} MiB free; "
            f"{manifest.model} needs {needed >> 20} MiB."
        )


def place(root: Path, entry: FileEntry) -> Path:
    """Return the path of an entry below `root`, whose folders now exist and are no links."""
    folder = root
    for part in PurePosixPath(entry.path).parts[:-1]:
        folder = folder / part
        if folder.is_symlink() or not folder.is_dir():
            remove(folder)
            folder.mkdir()
    return folder / PurePosixPath(entry.path).name


def is_whole(path: Path, entry: FileEntry) -> bool:
    """Whether `path` is a plain file with exactly the entry's bytes."""
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode) or about.st_size != entry.size:
            return False
        digest = blake3()
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == entry.blake3


def reuse(source: Path, target: Path, entry: FileEntry) -> bool:
    """Make `target` from a file that is on this disk already; False if that has other bytes."""
    if not is_whole(source, entry):
        return False
    remove(target)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target, follow_symlinks=False)
        return is_whole(target, entry)
    return True


def known_files(packages: Path) -> dict[str, list[Path]]:
    """Return the files of all whole packages by BLAKE3, as their manifests tell."""
    known: dict[str, list[Path]] = {}
    for path in sorted(packages.glob("*/*.manifest")):
        with contextlib.suppress(OSError, Invalid):
            for entry in parse_manifest(path.read_bytes()).files:
                known.setdefault(entry.blake3, []).append(path.with_suffix("") / entry.path)
    return known


def publish(files: Path, final: Path, manifest: bytes) -> None:
    """Make a whole package visible by one rename, its manifest first."""
    for folder, _, _ in os.walk(files):
        fsync_directory(Path(folder))
    write_atomic(manifest_path(final), manifest)
    files.rename(final)
    fsync_directory(final.parent)
    remove(files.parent)


def manifest_path(final: Path) -> Path:
    """Return where the manifest of a package lies: beside it."""
    return final.with_name(f"{final.name}.manifest")


def check(final: Path, digest: str) -> None:
    """Compare a package with its manifest, byte by byte; raises Invalid with the first difference.

    Folders named __pycache__ are passed over: engines write them.
    """
    try:
        data = manifest_path(final).read_bytes()
    except OSError as error:
        raise Invalid(f"its manifest cannot be read: {error.strerror}.") from None
    if blake3(data).hexdigest() != digest:
        raise Invalid("its manifest is damaged.")
    entries = {entry.path: entry for entry in parse_manifest(data).files}
    for path in _paths(final):
        if path not in entries:
            raise Invalid(f"{path!r} does not belong to it.")
    for path, entry in entries.items():
        if not os.path.lexists(final / path):
            raise Invalid(f"{path!r} is missing.")
        if not is_whole(final / path, entry):
            raise Invalid(f"{path!r} has other bytes.")


def _paths(root: Path) -> list[str]:
    """Return all that lies below `root` and is no plain folder, relative to it."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found += [Path(folder, name).relative_to(root).as_posix() for name in (*names, *links)]
    return sorted(found)


def discard(final: Path) -> None:
    """Remove a package and its manifest; it disappears by one rename."""
    grave = final.with_name(f".{final.name}.discarded")
    remove(grave)
    with contextlib.suppress(FileNotFoundError):
        final.rename(grave)
    manifest_path(final).unlink(missing_ok=True)
    remove(grave)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it points at) or a tree; nothing if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
