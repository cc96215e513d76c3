"""Objects as files in a directory; half-written ones lie in `incoming/`.

Input: a directory of this process alone, keys, bytes. Output: files that appear by one link or
rename, after their bytes were synced. Files are touched in worker threads, so that a large push
never holds up the event loop.
"""

import asyncio
import errno
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from federation.artifacts.base import ObjectInfo, check_key
from federation.contract.errors import Exhausted, NotFound, Unavailable
from federation.runtime.files import fsync_directory

_BLOCK_BYTES = 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LocalObjects:
    """An ObjectStore in the directory `root`. What a crash left half-written goes at start."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        with _told():
            if self._incoming.exists():
                shutil.rmtree(self._incoming)
            self._incoming.mkdir(parents=True)

    def __repr__(self) -> str:
        return f"LocalObjects({self._root})"

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def writer(self) -> "LocalWriter":
        """Begin an object; see ObjectStore."""
        return LocalWriter(self._root, self._incoming / uuid.uuid4().hex)

    async def put(self, key: str, data: bytes) -> bool:
        """Store a small object if its key is free; see ObjectStore."""
        target = self._path(key)
        return await asyncio.to_thread(self._store, target, data, replace=False)

    async def replace(self, key: str, data: bytes) -> None:
        """Store a small object in place of what is there; see ObjectStore."""
        target = self._path(key)
        await asyncio.to_thread(self._store, target, data, replace=True)

    def _store(self, target: Path, data: bytes, *, replace: bool) -> bool:
        temporary = self._incoming / uuid.uuid4().hex
        with _told():
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    return _publish(file, temporary, target, replace=replace)
            finally:
                temporary.unlink(missing_ok=True)

    async def size(self, key: str) -> int:
        """Return the length in bytes; raises NotFound."""
        path = self._path(key)
        with _told(key):
            return (await asyncio.to_thread(path.stat)).st_size

    async def read(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield `length` bytes from `start`; see ObjectStore."""
        path = self._path(key)
        with _told(key):
            file = await asyncio.to_thread(path.open, "rb", 0)
        with file:
            file.seek(start)
            left = length
            while left is None or left > 0:
                count = _BLOCK_BYTES if left is None else min(_BLOCK_BYTES, left)
                with _told(key):
                    block = await asyncio.to_thread(file.read, count)
                if not block:
                    return
                left = None if left is None else left - len(block)
                yield block

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`, in order."""
        with _told():
            found = await asyncio.to_thread(self._walk, prefix)
        for info in found:
            yield info

    def _walk(self, prefix: str) -> Sequence[ObjectInfo]:
        found = []
        folder = self._root / prefix.rpartition("/")[0]
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                key = path.relative_to(self._root).as_posix()
                if not key.startswith(prefix) or self._incoming in path.parents:
                    continue
                try:
                    status = path.stat()
                except FileNotFoundError:  # deleted since the folder was read
                    continue
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                found.append(ObjectInfo(key=key, size=status.st_size, modified_at=modified))
        return sorted(found, key=lambda info: info.key)

    async def delete(self, key: str) -> None:
        """Remove an object, durably; one that is absent is fine."""
        path = self._path(key)
        with _told():
            await asyncio.to_thread(_delete, path)

    async def signed_url(self, key: str, lifetime: timedelta) -> str | None:
        """Return None: files have no URL of their own."""
        check_key(key)
        return None


class LocalWriter:
    """An ObjectWriter into one temporary file, made at the first use."""

    def __init__(self, root: Path, temporary: Path) -> None:
        self._root = root
        self._temporary = temporary
        self._file: FileIO | None = None

    def _opened(self) -> FileIO:
        if self._file is None:
            self._file = self._temporary.open("xb", buffering=0)
        return self._file

    async def write(self, data: bytes) -> None:
        """Append bytes; see ObjectWriter."""
        with _told():
            await asyncio.to_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        file, left = self._opened(), memoryview(data)
        while left:  # a raw file may take less than it was given
            left = left[file.write(left) :]

    async def commit(self, key: str) -> None:
        """Make it durable under `key`; see ObjectWriter."""
        target = self._root / check_key(key)
        with _told():
            await asyncio.to_thread(self._commit, target)

    def _commit(self, target: Path) -> None:
        try:
            with self._opened() as file:
                _publish(file, self._temporary, target, replace=False)
        finally:
            self._temporary.unlink(missing_ok=True)

    async def abort(self) -> None:
        """Forget it."""
        with _told():
            await asyncio.to_thread(self._abort)

    def _abort(self) -> None:
        if self._file is not None:
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def _publish(file: BinaryIO | FileIO, temporary: Path, target: Path, *, replace: bool) -> bool:
    """Make the bytes durable, then visible; tell whether they became the object."""
    file.flush()
    os.fsync(file.fileno())
    _make_folder(target.parent)
    if replace:
        temporary.replace(target)
        won = True
    else:
        won = _link(temporary, target)
    fsync_directory(target.parent)  # also for the loser: it will say that the object is there
    return won


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_directory(folder.parent)


def _link(temporary: Path, target: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links. Whoever comes between these two lines writes equal
        # bytes (keys name their content) or loses like everybody who is late.
        if target.exists():
            return False
        temporary.replace(target)
    return True


def _delete(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    fsync_directory(path.parent)


@contextmanager
def _told(key: str = "") -> Iterator[None]:
    """Say in our words what the operating system said."""
    try:
        yield
    except OSError as error:
        if key and isinstance(error, FileNotFoundError):
            raise NotFound(f"there is no object {key} in the store.") from None
        if error.errno in _NO_SPACE:
            raise Exhausted(
                "the artifact store's disk is full.",
                hint="Free space, or remove unused packages with `fed model gc`.",
            ) from None
        raise Unavailable(f"the artifact store's disk failed: {error}.") from error
