"""A file's bytes from first to last through two buffers, hashed on the way in a second thread.

Input: an open file. Output: runs of its bytes for the cutter, and the digests of the whole file.
The file is read, not mapped: a mapped file that somebody shortens kills the process.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import BinaryIO

from blake3 import blake3

from federation.chunking.cutter import MAX_CUT_BYTES

WINDOW_BYTES = 16 << 20


class FileChanged(Exception):
    """The file is not what it was when it was opened."""


class Window:
    """The part of a file that is in memory. It only moves on. One object serves many files."""

    def __init__(self, second: Executor, progress: Callable[[int], None]) -> None:
        self._second = second
        self._progress = progress
        self._now, self._next = bytearray(WINDOW_BYTES), bytearray(WINDOW_BYTES)
        self._hashing: Future[None] | None = None  # of what was read into `_now`

    def open(self, file: BinaryIO) -> int:
        """Begin with a file; return its size."""
        self._file = file
        self._status = os.fstat(file.fileno())
        self._start = self._end = 0  # of the part in `_now`
        self._whole, self._classic = blake3(), hashlib.sha256()
        return self._status.st_size

    def run(self, start: int, end: int) -> memoryview:
        """Return bytes from `start`: all to `end`, or else at least MAX_CUT_BYTES. They are good
        until the second call after this one; raises FileChanged if the file became shorter."""
        if self._end < min(end, start + MAX_CUT_BYTES):
            self._move_to(start)
        first = start - self._start
        return memoryview(self._now)[first : min(end, self._end) - self._start]

    def digests(self) -> tuple[str, str]:
        """Return BLAKE3 and SHA-256 of the whole file, in hex, when all of it was read; raises
        FileChanged if it changed in between."""
        self._wait()
        now = os.fstat(self._file.fileno())
        if self._end != now.st_size or now.st_mtime_ns != self._status.st_mtime_ns:
            raise FileChanged
        return self._whole.hexdigest(), self._classic.hexdigest()

    def _move_to(self, start: int) -> None:
        """Read on, keeping what was read from `start`. While this reads, the other buffer may
        still be hashed: its bytes are only copied."""
        kept = self._end - start
        target = memoryview(self._next)
        target[:kept] = memoryview(self._now)[start - self._start : self._end - self._start]
        wanted = min(len(target), self._status.st_size - start)
        have = kept
        while have < wanted:
            got = self._file.readinto(target[have:wanted])  # type: ignore[attr-defined]
            if not got:
                raise FileChanged
            have += got
        self._wait()
        self._hashing = self._second.submit(self._hash, target[kept:wanted])
        self._now, self._next = self._next, self._now
        self._start, self._end = start, start + wanted
        self._progress(wanted - kept)

    def _hash(self, fresh: memoryview) -> None:
        self._whole.update(fresh)
        self._classic.update(fresh)

    def _wait(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None
