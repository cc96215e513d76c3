"""Bytes into a staging folder: what lies there, what other packages have, what comes from outside.

Input: an open folder, a manifest, a library of this disk, chunks. Output: files in which every
chunk that is marked was read or written by this process and hashed right. Calls block and come from
many threads; they end early, with Conflict, when `check_open` says so.
"""

import collections
import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from blake3 import blake3

from edge_agent.policy.pieces import Piece, pieces_of
from edge_agent.sync.breath import Breath
from edge_agent.sync.contents import Contents
from edge_agent.sync.durable import (
    Buffer,
    StagedFiles,
    hash_range,
    is_hole,
    read_all,
    write_all,
)
from edge_agent.sync.faults import Faults
from edge_agent.sync.layout import Folder
from edge_agent.sync.marks import Marks
from edge_agent.sync.reuse import Library, Run, copy_range
from edge_agent.sync.shelving import Order
from edge_agent.sync.tree import clean
from federation.contract.errors import Invalid
from federation.runtime.background import step_behind

_THREADS = min(4, max(1, (os.cpu_count() or 1) // 2))  # the rest of the machine serves
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a filler works with. `check_open` raises Conflict when the work is not wanted."""

    folder: Folder
    library: Library
    faults: Faults
    check_open: Callable[[], None]
    breath: Breath


class Filler:
    """Fills the files of one package. `reused_bytes` came from this disk without having lain in
    the folder."""

    def __init__(self, order: Order, around: Surroundings) -> None:
        self._name, self._entries = str(order.name), order.manifest.files
        self._folder, self._library = around.folder, around.library
        self._faults, self._check_open = around.faults, around.check_open
        self._breath = around.breath
        self.pieces: tuple[Piece, ...] = pieces_of(order.manifest)
        self.contents = Contents(self._entries)
        self.marks = Marks(self.contents, self.pieces)
        self.files = StagedFiles(around.folder, self._entries, around.faults, self.marks.forget)
        self.reused_bytes = 0
        self._whole_chunk = threading.Lock()  # one at a time lies in memory

    def __repr__(self) -> str:
        return f"Filler({self._name}, {self.marks})"

    # ------------------------------------------------------------ the three sources

    def resume(self) -> None:
        """Hash what lies in the folder, holes left out, and remove what does not belong there.

        Raises Unavailable if the disk fails.
        """
        with self._faults.told(f"reading {self._folder.path}"):
            clean(self._folder, self._entries)
            self._side_by_side(self._hash_piece, self.pieces)
            for number, entry in enumerate(self._entries):
                self._settle(number, entry.path, entry.size)

    def link(self) -> None:
        """Take whole files from packages on this disk by hard links; raises Unavailable."""
        for number, entry in enumerate(self._entries):
            if entry.size and not self.is_whole(number):
                any(self._link(number, source) for source in self._library.equal_files(entry))

    def copy(self) -> None:
        """Take chunks from packages on this disk, and those that the package has twice from
        itself; then take space for the rest. Raises Exhausted, Unavailable."""
        for number in range(len(self._entries)):
            if not self.is_whole(number):
                self.files.make(number)
        runs = list(self._library.runs(self.contents, self.marks.is_missing))
        self._side_by_side(self._copy, runs)
        for number in range(len(self.contents)):
            if self.marks.is_missing(number):
                self._repeat(number)
        for number in range(len(self._entries)):
            if not self.marks.whole(number):
                self.files.reserve(number, self._gaps(number))

    def put(self, number: int, data: Buffer) -> int:
        """Write a chunk to all its places; return how many bytes that adds.

        Raises Invalid if they are other bytes, Exhausted, Unavailable.
        """
        chunk, added, view = self.contents.chunk(number), 0, memoryview(data)
        if len(view) != chunk.length or self._digest(view) != chunk.digest:
            raise Invalid(f"chunk {number} of {self._name} came with other bytes.")
        for place in tuple(self.marks.missing_places(number)):
            file_number, offset = self.contents.place(place)
            with self.files.writing(file_number) as file:
                for part in self._breath.slices(view):
                    write_all(file.fd, part, offset)
                    offset += len(part)
                with self.files.lock:
                    file.unsynced_bytes += chunk.length
                    if not file.dead:
                        added += self.marks.mark((place,))
        return added

    def _digest(self, data: memoryview) -> bytes:
        digest = blake3()
        for part in self._breath.slices(data):
            digest.update(part)
        return digest.digest()

    # ------------------------------------------------------------ what lies there

    def is_whole(self, file: int) -> bool:
        """Whether a file has its name, its size and all its chunks."""
        return self.files.is_ready(file) and self.marks.whole(file)

    def unallocated_bytes(self) -> int:
        """Return what the disk must still give to files that are not whole."""
        return sum(
            self._unallocated(entry.path, entry.size)
            for number, entry in enumerate(self._entries)
            if not self.is_whole(number)
        )

    def read(self, file: int, offset: int, length: int) -> bytes:
        """Return bytes of a file; raises OSError, Invalid."""
        fd = self._folder.open_file(self._entries[file].path)
        try:
            return read_all(fd, offset, length)
        finally:
            os.close(fd)

    def _unallocated(self, path: str, size: int) -> int:
        try:
            fd = self._folder.open_file(path)
        except (OSError, Invalid):
            return size
        try:
            return max(0, size - os.fstat(fd).st_blocks * 512)
        finally:
            os.close(fd)

    def _gaps(self, file: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of what is missing in a file, neighbours together."""
        start = end = 0
        for number in filter(self.marks.is_missing, self.contents.chunks_in(file)):
            offset = self.contents.place(number)[1]
            if offset != end:
                if end > start:
                    yield start, end - start
                start = offset
            end = offset + self.contents.chunk(number).length
        if end > start:
            yield start, end - start

    # ------------------------------------------------------------ resuming

    def _side_by_side(self, do: Callable[[T], None], items: Iterable[T]) -> None:
        # Not one future for each item: there may be 35,000 pieces.
        todo, turn = iter(items), threading.Lock()

        def work() -> None:
            try:
                while True:
                    with turn:
                        item = next(todo)
                    self._check_open()
                    do(item)
            except StopIteration:
                return
            finally:
                with turn:  # after an error the others end as well
                    collections.deque(todo, maxlen=0)

        with ThreadPoolExecutor(_THREADS, initializer=step_behind) as pool:
            for done in [pool.submit(work) for _ in range(_THREADS)]:
                done.result()
        self._check_open()

    def _right(self, fd: int, numbers: Iterable[int]) -> list[int]:
        """Return those chunks that lie in their places in an open file; raises OSError."""
        good = []
        for number in numbers:
            chunk, (_, offset) = self.contents.chunk(number), self.contents.place(number)
            if is_hole(fd, offset, chunk.length):
                continue
            if hash_range(fd, offset, chunk.length, self._breath.take) == chunk.digest:
                good.append(number)
        return good

    def _hash_piece(self, piece: Piece) -> None:
        """Mark what lies here of a piece. What cannot be read is absent."""
        entry = self._entries[piece.file]
        with contextlib.suppress(OSError, Invalid):
            fd = self._folder.open_file(entry.path)
            try:
                if os.fstat(fd).st_size == entry.size:
                    good = self._right(fd, range(piece.first, piece.first + piece.count))
                    with self.files.lock:
                        self.marks.mark(good)
            finally:
                os.close(fd)

    def _settle(self, number: int, path: str, size: int) -> None:
        """Keep a file that was found if it is whole, or may be written."""
        try:
            fd = self._folder.open_file(path)
        except FileNotFoundError:
            return
        about = os.fstat(fd)
        os.close(fd)
        if about.st_size != size:
            return
        self.files.found(number)
        if about.st_nlink > 1 and not self.marks.whole(number):
            self.files.drop(number)  # it belongs to a published package too

    # ------------------------------------------------------------ reuse

    def _link(self, number: int, source: int) -> bool:
        """Make a file a link of one on disk, if that has the right bytes."""
        self._check_open()
        numbers = self.contents.chunks_in(number)
        try:
            with self._library.opened(source) as (fd, parent, name):
                size = self._entries[number].size
                if os.fstat(fd).st_size != size or self._right(fd, numbers) != list(numbers):
                    return False
                with self._faults.told(f"linking {name!r}"):
                    if not self.files.adopt(number, fd, parent, name):
                        return False
        except (OSError, Invalid):  # of the source: it is not what its manifest says
            return False
        with self.files.lock:
            self.reused_bytes += self.marks.mark(numbers)
        return True

    def _copy(self, run: Run) -> None:
        """Copy a run, then believe of it what hashes right in its new place."""
        with contextlib.suppress(OSError, Invalid), self._library.opened(run.source) as source:
            self._copy_from(source[0], run)
        for number in range(run.first, run.first + run.count):
            digest = self.contents.chunk(number).digest
            if self.marks.is_missing(number):
                with self._whole_chunk:
                    if data := self._library.chunk(digest):
                        self._put_reused(number, data)

    def _copy_from(self, source: int, run: Run) -> None:
        with self.files.writing(run.file) as file:
            with contextlib.suppress(OSError):  # of either side: the caller finds out of which
                copy_range(source, run.source_offset, file.fd, run.offset, run.length)
            good = self._right(file.fd, range(run.first, run.first + run.count))
            with self.files.lock:
                file.unsynced_bytes += run.length
                if not file.dead:
                    self.reused_bytes += self.marks.mark(good)

    def _repeat(self, number: int) -> None:
        """Fill a chunk from another place in this package."""
        self._check_open()
        for other in self.contents.same(number):
            if not self.marks.is_missing(other):
                file, offset = self.contents.place(other)
                with self._faults.told(f"reading {self._folder.path}"):
                    data = self.read(file, offset, self.contents.chunk(other).length)
                self._put_reused(number, data)
                return

    def _put_reused(self, number: int, data: bytes) -> None:
        with contextlib.suppress(Invalid):
            added = self.put(number, data)
            with self.files.lock:
                self.reused_bytes += added
