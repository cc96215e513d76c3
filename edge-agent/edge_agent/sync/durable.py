"""Files that are being written, and how they become durable.

Input: entries of a manifest, bytes for their places. Output: files below a staging folder. A file
has its space before bytes are fetched for it (a full disk shows at once), is flushed every
SYNC_BYTES (bounds what a power loss costs), and is sealed by fsync. A file that the disk could not
write is poisoned: the kernel drops the error and the bytes, so it is deleted and never believed.
"""

import contextlib
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from blake3 import blake3

from edge_agent.sync.faults import Faults
from edge_agent.sync.layout import Folder
from federation.contract.errors import FederationError
from federation.contract.types import FileEntry

SYNC_BYTES = 64 << 20
READ_ONLY = 0o444
_MAX_OPEN = 64
_BLOCK = 256 << 10  # of a file that is hashed; some threads do so at once
Buffer = bytes | bytearray | memoryview
# Linux has them; elsewhere their weaker or slower kin will do.
_fdatasync = getattr(os, "fdatasync", os.fsync)
_fallocate = getattr(os, "posix_fallocate", lambda fd, offset, length: None)


def write_all(fd: int, data: Buffer, offset: int) -> None:
    """Write until all is written: a write may be short. Raises OSError."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def read_all(fd: int, offset: int, length: int) -> bytes:
    """Read exactly so many bytes; raises OSError if the file ends before."""
    blocks: list[bytes] = []
    while length > 0:
        if not (block := os.pread(fd, length, offset)):
            raise OSError(errno.EIO, "the file is shorter than it was")
        blocks.append(block)
        offset, length = offset + len(block), length - len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def hash_range(fd: int, offset: int, length: int, rest: Callable[[], None] = lambda: None) -> bytes:
    """Return the BLAKE3 of a part of a file, b"" if the file ends before; raises OSError.

    `rest` is called after each block.
    """
    digest, end = blake3(), offset + length
    while offset < end:
        if not (block := os.pread(fd, min(_BLOCK, end - offset), offset)):
            return b""
        digest.update(block)
        offset += len(block)
        rest()
    return digest.digest()


def is_hole(fd: int, offset: int, length: int) -> bool:
    """Whether nothing was ever written there, as far as the file system tells."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) >= offset + length
    except OSError as error:
        return error.errno == errno.ENXIO


@dataclass(slots=True, eq=False)
class Writing:
    """An open file that is written by some threads. `dead`: nothing that is written counts."""

    number: int
    fd: int
    users: int = 0
    unsynced_bytes: int = 0
    dead: bool = False


def _seal(fd: int) -> None:
    if stat.S_IMODE(os.fstat(fd).st_mode) != READ_ONLY:
        os.fchmod(fd, READ_ONLY)
    os.fsync(fd)


class StagedFiles:
    """The files of one staging folder, by their number in the manifest. `forget` is called, under
    `lock`, for a file whose bytes do not count any more."""

    def __init__(
        self,
        folder: Folder,
        entries: Sequence[FileEntry],
        faults: Faults,
        forget: Callable[[int], None],
    ) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._entries = entries
        self._faults = faults
        self._forget = forget
        self._open: OrderedDict[int, Writing] = OrderedDict()
        self._ready = bytearray(len(entries))  # 1: has its name and its size

    def __repr__(self) -> str:
        return f"StagedFiles({self.folder.path}, {len(self._open)} open)"

    # ------------------------------------------------------------ writing

    @contextlib.contextmanager
    def writing(self, number: int) -> Iterator[Writing]:
        """Open a file of its full size to write in it, side by side with other threads.

        Raises Exhausted if there is no space, Unavailable if the disk fails; the file is then
        poisoned.
        """
        with self.lock:
            file = self._open.get(number) or self._begin(number)
            file.users += 1
            self._open.move_to_end(number)
        try:
            yield file
            if file.unsynced_bytes >= SYNC_BYTES:
                file.unsynced_bytes = 0
                _fdatasync(file.fd)
        except OSError as error:
            raise self._poison(number, error, "writing") from None
        finally:
            self._release(file)
        self._close_idle(_MAX_OPEN)

    def make(self, number: int) -> None:
        """Give a file its name and its size; raises Exhausted, Unavailable."""
        with self.lock:
            if not self._ready[number]:
                self._begin(number)
        self._close_idle(_MAX_OPEN)

    def reserve(self, number: int, spans: Iterable[tuple[int, int]]) -> None:
        """Take space for parts of a file, (offset, length); raises Exhausted, Unavailable.

        Only for what will be written: space that blocks of another file take over later would stay
        in use on btrfs.
        """
        with self._faults.told(f"making room for {self._entries[number].path!r}"), self.lock:
            file = self._open.get(number) or self._begin(number)
            for offset, length in spans:
                _fallocate(file.fd, offset, length)
        self._close_idle(_MAX_OPEN)

    def is_ready(self, number: int) -> bool:
        """Whether a file has its name and its size."""
        return bool(self._ready[number])

    def found(self, number: int) -> None:
        """Note that a file of the right size lies there already."""
        self._ready[number] = 1

    def drop(self, number: int) -> None:
        """Remove a file, and forget what it holds; raises OSError."""
        path = PurePosixPath(self._entries[number].path)
        with self.lock:
            self._drop(number)
            with self.folder.below(str(path)) as parent:
                parent.remove(path.name)

    def adopt(self, number: int, source: int, parent: Folder, name: str) -> bool:
        """Make a file a hard link of one that lies in `parent`, if that is still the file open as
        `source`; False if this file system, or this file, cannot be linked."""
        with self.lock:
            self._drop(number)
            path = PurePosixPath(self._entries[number].path)
            with self.folder.below(str(path), make=True) as here:
                here.remove(path.name)
                try:
                    os.link(
                        name,
                        path.name,
                        src_dir_fd=parent.fd,
                        dst_dir_fd=here.fd,
                        follow_symlinks=False,
                    )
                except OSError as error:
                    if error.errno in (errno.EIO, errno.ENOSPC, errno.EROFS):
                        raise
                    return False
                about, expected = here.stat(path.name), os.fstat(source)
                if about is None or (about.st_dev, about.st_ino) != (
                    expected.st_dev,
                    expected.st_ino,
                ):
                    here.remove(path.name)
                    return False
            self._ready[number] = 1
            return True

    # ------------------------------------------------------------ sealing

    def seal(self, number: int) -> None:
        """Make a file read-only and durable; raises Unavailable, and the file is then poisoned."""
        with self.lock:
            if file := self._open.pop(number, None):
                file.users += 1
        try:
            if file:
                _seal(file.fd)
                return
            fd = self.folder.open_file(self._entries[number].path)
            try:
                _seal(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._poison(number, error, "fsync of") from None
        finally:
            if file:
                file.dead = True  # whoever uses it last closes it
                self._release(file)

    def close(self) -> None:
        """Close what no thread writes; the rest is closed by its last writer."""
        with self.lock:
            for number in list(self._open):
                self._retire(number)

    # ------------------------------------------------------------ inside

    def _begin(self, number: int) -> Writing:
        entry = self._entries[number]
        with self._faults.told(f"making {entry.path!r}"):
            fd = self._make(entry)
        self._ready[number] = 1
        file = self._open[number] = Writing(number, fd)
        return file

    def _make(self, entry: FileEntry) -> int:
        name = PurePosixPath(entry.path).name
        with self.folder.below(entry.path, make=True) as parent:
            about = parent.stat(name)
            # A linked file is a published one too; a read-only one was sealed before a crash.
            if about and not (stat.S_ISREG(about.st_mode) and about.st_nlink == 1):
                parent.remove(name)
            elif about and not about.st_mode & stat.S_IWUSR:
                sealed = parent.open(name, os.O_RDONLY)
                try:
                    os.fchmod(sealed, 0o600)
                finally:
                    os.close(sealed)
            fd = parent.open(name, os.O_RDWR | os.O_CREAT)
        try:
            if os.fstat(fd).st_size != entry.size:
                os.ftruncate(fd, 0)
                os.ftruncate(fd, entry.size)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _poison(self, number: int, error: OSError, doing: str) -> FederationError:
        with self.lock, contextlib.suppress(OSError):
            self.drop(number)
        return self._faults.saw(error, f"{doing} {self._entries[number].path!r}")

    def _drop(self, number: int) -> None:
        """Forget all that a file holds. Call under the lock."""
        self._retire(number)
        self._ready[number] = 0
        self._forget(number)

    def _retire(self, number: int) -> None:
        if (file := self._open.pop(number, None)) is None:
            return
        file.dead = True
        if not file.users:
            os.close(file.fd)

    def _release(self, file: Writing) -> None:
        with self.lock:
            file.users -= 1
            if file.dead and not file.users:
                os.close(file.fd)

    def _close_idle(self, keep: int) -> None:
        """Close the files that were not written for longest. Each is flushed first: an error that
        nobody heard would be lost with its descriptor."""
        with self.lock:
            idle = [f for f in self._open.values() if not f.users]
            idle = idle[: max(0, len(self._open) - keep)]
            for file in idle:
                del self._open[file.number]
        for file in idle:
            try:
                if file.unsynced_bytes:
                    _fdatasync(file.fd)
            except OSError as error:
                raise self._poison(file.number, error, "flushing") from None
            finally:
                os.close(file.fd)
