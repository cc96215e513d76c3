"""One version of a model while it is being put together. Blocking calls, from many threads.

Input: its manifest, chunks from anywhere. Output: a published package. There is no journal: a chunk
that lies in its place and hashes right is present, anything else is absent. So after a crash at any
point the next run goes on, and nothing that was written before is believed unseen.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.sync.breath import Breath
from edge_agent.sync.durable import Buffer
from edge_agent.sync.faults import Faults
from edge_agent.sync.filling import Filler, Surroundings
from edge_agent.sync.layout import STAGING, Folder, Layout
from edge_agent.sync.reuse import Library
from edge_agent.sync.shelving import Order, shelve
from edge_agent.sync.tree import make_durable, stray
from edge_agent.sync.views import slice_of
from federation.contract.errors import Conflict, NotFound
from federation.contract.manifest import Chunk


@dataclass(frozen=True, slots=True)
class Outside:
    """What all versions that are put together on this disk share."""

    library: Library
    faults: Faults
    breath: Breath


class Staging:
    """Made by `Shelf.open`, which took its lock. Call `resume`, then `reuse`, then `put` what is
    `needed`, then `publish`; `close` in any case."""

    def __init__(self, order: Order, layout: Layout, outside: Outside, lock_fd: int) -> None:
        self._order, self._layout, self._library = order, layout, outside.library
        self._faults, self._lock_fd = outside.faults, lock_fd
        self._users, self._closing, self.is_published = 0, False, False
        self.on_closed: Callable[[], None] = lambda: None
        self._folder = _staging_folder(layout, order)
        around = Surroundings(
            self._folder, self._library, self._faults, self._check_open, outside.breath
        )
        self._filler = Filler(order, around)
        self._files, self._marks = self._filler.files, self._filler.marks
        self.manifest, self.digest = order.manifest, order.name.digest
        self.pieces = self._filler.pieces
        self.title, self.total_bytes = str(order.name), order.manifest.size

    def __repr__(self) -> str:
        told = f"{self.present_bytes} of {self.total_bytes} bytes"
        return f"Staging({self.title}, {told}, {self.reused_bytes} reused)"

    # ------------------------------------------------------------ what lies here

    @property
    def present_bytes(self) -> int:
        """Bytes that are in their places and were verified."""
        return self._marks.present_bytes

    @property
    def reused_bytes(self) -> int:
        """Those of them that came from other packages here, or from another place in this one."""
        return self._filler.reused_bytes

    @property
    def complete(self) -> bool:
        """Whether every chunk is in its place."""
        return not self._marks.lacking

    @property
    def outstanding_bytes(self) -> int:
        """What the disk must still give to it: call `resume` and `link` before."""
        with self._using():
            documents = len(self._order.manifest_bytes) + len(self._order.release_bytes)
            return documents + self._filler.unallocated_bytes()

    def resume(self) -> None:
        """Hash what lies here, holes left out, and remove what does not belong here.

        Raises Unavailable if the disk fails, Conflict after `close`.
        """
        with self._using():
            self._filler.resume()

    def link(self) -> None:
        """Take whole files from packages on this disk by hard links, which costs no space.

        Raises Unavailable if the disk fails, Conflict after `close`.
        """
        with self._using():
            self._filler.link()

    def reuse(self) -> None:
        """Take from packages on this disk whatever has the right bytes, and from this one what it
        has twice. All files have their space afterwards.

        Raises Exhausted if there is not enough, Unavailable if the disk fails, Conflict after
        `close`.
        """
        with self._using():
            self._filler.link()
            self._filler.copy()

    # ------------------------------------------------------------ what is fetched

    def chunk(self, number: int) -> Chunk:
        """Return digest and length of a chunk."""
        return self._filler.contents.chunk(number)

    def needed(self, piece: int) -> tuple[int, ...]:
        """Return the chunks to fetch for a piece, each digest once in the whole package: () if it
        is held, or if other pieces bring what it lacks."""
        return self._marks.needed(piece)

    def put(self, number: int, data: Buffer) -> None:
        """Write a chunk to every place that it has in the package.

        Raises Invalid if the bytes are not those of the chunk, Exhausted if the disk is full,
        Conflict after `close`, Unavailable if the disk fails: what the file held before is then to
        be fetched again.
        """
        with self._using():
            self._filler.put(number, data)

    def base(self, digest: bytes) -> bytes | None:
        """Return the verified bytes of a chunk of another package on this disk, or None."""
        return self._library.chunk(digest)

    # ------------------------------------------------------------ what peers are given

    def holds(self, piece: int) -> bool:
        """Whether all of a piece is in its place."""
        return self._marks.holds(piece)

    def bitmap(self) -> bytes:
        """One bit for each piece, lowest bit of the first byte first."""
        return self._marks.bitmap()

    def read(self, piece: int, skip: int, length: int) -> bytes:
        """Return bytes of a held piece; raises NotFound."""
        if not self.holds(piece):
            raise NotFound(f"piece {piece} of {self.title} is not here yet.")
        about = self.pieces[piece]
        offset, length = slice_of(about, skip, length)
        try:
            with self._using():
                return self._filler.read(about.file, offset, length)
        except (OSError, Conflict):
            raise NotFound(f"piece {piece} of {self.title} is gone.") from None

    # ------------------------------------------------------------ the end

    def publish(self) -> Path:
        """Make all durable, and the package visible by one rename; return its folder.

        Raises Conflict if chunks are missing, Unavailable if the disk fails: then `needed` tells
        what must be fetched again.
        """
        with self._using():
            if lacking := self._marks.lacking:
                raise Conflict(f"{self.title} lacks {lacking} chunks.")
            for number in range(len(self.manifest.files)):
                self._files.make(number)  # the empty ones
                self._files.seal(number)
            with self._faults.told(f"publishing {self.title}"):
                if told := stray(self._folder, self.manifest.files):
                    raise Conflict(f"{self.title} changed on disk: {told}")
                make_durable(self._folder)
                path = shelve(self._layout, self._order)
                self._layout.unlock(self._order.name, self._lock_fd)
                self._lock_fd, self.is_published = -1, True
            self.close()
        return path

    def close(self) -> None:
        """Give back files and lock, as soon as no call is under way; those end early. What was put
        stays for the next time."""
        with self._files.lock:
            if not self._closing:
                self._closing = True
                self._release_if_idle()

    # ------------------------------------------------------------ open and closed

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        # A descriptor that is closed under a thread may be another folder's by its next call.
        with self._files.lock:
            self._check_open()
            self._users += 1
        try:
            yield
        finally:
            with self._files.lock:
                self._users -= 1
                self._release_if_idle()

    def _check_open(self) -> None:
        if self._closing:
            raise Conflict(f"the staging of {self.title} is closed.")

    def _release_if_idle(self) -> None:
        if not self._closing or self._users:
            return
        self._files.close()
        self._folder.close()
        lock, self._lock_fd = self._lock_fd, -1
        if lock >= 0:
            os.close(lock)
        self.on_closed()


def _staging_folder(layout: Layout, order: Order) -> Folder:
    """Open the folder of an order; what has its name and is none is removed."""
    with layout.model(STAGING, order.name.model) as parent:
        about = parent.stat(order.name.folder)
        if about and not stat.S_ISDIR(about.st_mode):
            parent.remove(order.name.folder)
        return parent.folder(order.name.folder, make=True)
