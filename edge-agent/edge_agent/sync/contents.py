"""The chunks of many files by number and by digest, in little memory.

Input: entries of manifests. Output: for a number its file, offset, length and digest; for a digest
its numbers. Chunks are numbered through all files in their order. It takes about 20 bytes for each
chunk beside the 36 of the manifest: a package of 140 GB at the usual size needs 8 MB.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence

from federation.contract.manifest import Chunk
from federation.contract.types import FileEntry

_RECORD = 36  # bytes of a chunk in a FileEntry: digest, length
_DIGEST = 32
_PARTS = struct.Struct("<32sI")


class Contents:
    """What some files consist of. With `repeats`, all places of a chunk can be asked for, else the
    first one."""

    def __init__(self, files: Sequence[FileEntry], *, repeats: bool = True) -> None:
        self._files = tuple(entry.chunks for entry in files)
        self._firsts = array("I", [0])
        self._offsets = array("Q")
        for chunks in self._files:
            offset = 0
            for _, length in _PARTS.iter_unpack(chunks):
                self._offsets.append(offset)
                offset += length
            self._firsts.append(len(self._offsets))
        self._again: dict[int, list[int]] = {}
        self._repeated = bytearray(len(self._offsets))
        self._table = array("I", bytes(4 << max(2, (2 * len(self._offsets)).bit_length())))
        self._fill(repeats=repeats)

    def __len__(self) -> int:
        return len(self._offsets)

    def __repr__(self) -> str:
        return f"Contents({len(self._files)} files, {len(self)} chunks)"

    def place(self, number: int) -> tuple[int, int]:
        """Return the number of the file in which a chunk lies, and its offset there."""
        return bisect_right(self._firsts, number) - 1, self._offsets[number]

    def chunks_in(self, file: int) -> range:
        """Return the numbers of a file's chunks."""
        return range(self._firsts[file], self._firsts[file + 1])

    def record(self, number: int) -> bytes:
        """Return digest and length as they stand in the manifest."""
        file = bisect_right(self._firsts, number) - 1
        at = (number - self._firsts[file]) * _RECORD
        return self._files[file][at : at + _RECORD]

    def chunk(self, number: int) -> Chunk:
        """Return a chunk's digest and length."""
        record = self.record(number)
        return Chunk(record[:_DIGEST], int.from_bytes(record[_DIGEST:], "little"))

    def find(self, record: bytes) -> int | None:
        """Return the first chunk with this record, or with this digest alone; None if none has."""
        mask = len(self._table) - 1
        slot = hash(record[:_DIGEST]) & mask
        while taken := self._table[slot]:
            if self.record(taken - 1).startswith(record):
                return taken - 1
            slot = (slot + 1) & mask
        return None

    def same(self, number: int) -> tuple[int, ...]:
        """Return all chunks with the same bytes, this one included, in order."""
        if not self._repeated[number]:
            return (number,)
        first = self.find(self.record(number))
        return (number,) if first is None else (first, *self._again[first])

    def _fill(self, *, repeats: bool) -> None:
        # Open addressing. Python's own hash is keyed: nobody can choose digests that collide.
        table, mask = self._table, len(self._table) - 1
        records = (c[at : at + _RECORD] for c in self._files for at in range(0, len(c), _RECORD))
        for number, record in enumerate(records):
            slot = hash(record[:_DIGEST]) & mask
            while taken := table[slot]:
                if self.record(taken - 1) == record:
                    if repeats:
                        self._again.setdefault(taken - 1, []).append(number)
                        self._repeated[number] = self._repeated[taken - 1] = 1
                    break
                slot = (slot + 1) & mask
            else:
                table[slot] = number + 1
