"""What lies on this disk already, as a source for a new version.

Input: the manifests of the packages on disk. Output: the place of a chunk or of a whole file, and
its bytes in their new place: by a hard link, by sharing blocks, or by a copy in the kernel. Nothing
here is believed: who takes bytes from it hashes them in their new place.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from blake3 import blake3

from edge_agent.sync.contents import Contents
from edge_agent.sync.durable import read_all, write_all
from edge_agent.sync.layout import PACKAGES, Folder, Layout, PackageName
from federation.contract.errors import Invalid
from federation.contract.types import FileEntry, Manifest

BLOCK = 4096  # file systems share whole blocks only
MAX_RUN_BYTES = 64 << 20
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """`length` bytes at `source_offset` of a file on disk are the `count` chunks from `first` on,
    which belong at `offset` of the file with number `file`."""

    source: int
    source_offset: int
    file: int
    offset: int
    length: int
    first: int
    count: int


class Library:
    """The files of the packages on disk. Built from their manifests; the disk has no index that
    could disagree with them."""

    def __init__(self, layout: Layout, packages: Sequence[tuple[PackageName, Manifest]]) -> None:
        self._layout = layout
        self._files = [(name, entry) for name, known in packages for entry in known.files]
        self._contents = Contents([entry for _, entry in self._files], repeats=False)
        self._equal: dict[tuple[str, int], list[int]] = {}
        for number, (_, entry) in enumerate(self._files):
            self._equal.setdefault((entry.blake3, entry.size), []).append(number)

    def __repr__(self) -> str:
        return f"Library({len(self._files)} files, {len(self._contents)} chunks)"

    def equal_files(self, entry: FileEntry) -> Sequence[int]:
        """Return the numbers of files that claim to have these bytes."""
        return self._equal.get((entry.blake3, entry.size), ())

    @contextlib.contextmanager
    def opened(self, number: int) -> Iterator[tuple[int, Folder, str]]:
        """Open a file: its descriptor, its folder, its name there; raises OSError, Invalid."""
        name, entry = self._files[number]
        with self._layout.model(PACKAGES, name.model) as home, home.folder(name.folder) as package:
            fd = package.open_file(entry.path)
            try:
                with package.below(entry.path) as parent:
                    yield fd, parent, PurePosixPath(entry.path).name
            finally:
                os.close(fd)

    def chunk(self, digest: bytes) -> bytes | None:
        """Return the verified bytes of a chunk; None if no package has it."""
        if (number := self._contents.find(digest)) is None:
            return None
        file, offset = self._contents.place(number)
        try:
            with self.opened(file) as (fd, _, _):
                data = read_all(fd, offset, self._contents.chunk(number).length)
        except (OSError, Invalid):
            return None
        return data if blake3(data).digest() == digest else None

    def runs(self, wanted: Contents, is_missing: Callable[[int], bool]) -> Iterator[Run]:
        """Yield where the missing chunks of a package can be taken from, neighbours together."""
        number = 0
        while number < len(wanted):
            source = self._contents.find(wanted.record(number)) if is_missing(number) else None
            if source is None:
                number += 1
                continue
            run = self._run(wanted, number, source, is_missing)
            yield run
            number += run.count

    def _run(
        self, wanted: Contents, first: int, source: int, is_missing: Callable[[int], bool]
    ) -> Run:
        (file, offset), (from_file, from_offset) = wanted.place(first), self._contents.place(source)
        ends = wanted.chunks_in(file).stop, self._contents.chunks_in(from_file).stop
        length, count = wanted.chunk(first).length, 1
        while first + count < ends[0] and source + count < ends[1] and length < MAX_RUN_BYTES:
            record = wanted.record(first + count)
            if not is_missing(first + count) or self._contents.record(source + count) != record:
                break
            length += wanted.chunk(first + count).length
            count += 1
        return Run(from_file, from_offset, file, offset, length, first, count)


def copy_range(source: int, source_offset: int, target: int, offset: int, length: int) -> None:
    """Copy bytes between files. Blocks are shared where the file system can and the offsets agree:
    it needs whole blocks, so head and tail are copied apart. Raises OSError."""
    head = min(length, -offset % BLOCK)
    body = (length - head) // BLOCK * BLOCK
    if source_offset % BLOCK != offset % BLOCK or not body:
        _in_kernel(source, source_offset, target, offset, length)
        return
    end = head + body
    _by_hand(source, source_offset, target, offset, head)
    _in_kernel(source, source_offset + head, target, offset + head, body)
    _by_hand(source, source_offset + end, target, offset + end, length - end)


def _in_kernel(source: int, source_offset: int, target: int, offset: int, length: int) -> None:
    while length > 0:
        try:
            done = os.copy_file_range(source, target, length, source_offset, offset)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            done = 0
        if not done:  # the file systems differ, cannot do it, or the source ends here
            _by_hand(source, source_offset, target, offset, length)
            return
        source_offset, offset, length = source_offset + done, offset + done, length - done


def _by_hand(source: int, source_offset: int, target: int, offset: int, length: int) -> None:
    while length > 0:
        block = read_all(source, source_offset, min(length, _COPY_BYTES))
        write_all(target, block, offset)
        done = len(block)
        source_offset, offset, length = source_offset + done, offset + done, length - done
