"""Bounded random access to the bytes of one file, for the parsers of tensor formats.

Input: a function that reads at an offset. Output: bytes, numbers; Malformed for what lies outside.
Files are read, not mapped: a mapped file that somebody shortens kills the process with SIGBUS.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

_BLOCK_BYTES = 64 << 10
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Malformed(ValueError):
    """The file is not of the format that its name says, or too odd to be worth the effort."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The bytes of one tensor, from `start` to before `end`. `width` is the size of its floating
    point numbers (2 or 4) where splitting them into byte planes helps compression, else 0."""

    start: int
    end: int
    width: int = 0


class Reader:
    """One file. Every access counts as a step; too many of them raise Malformed."""

    def __init__(
        self, read_at: Callable[[int, int], bytes], size: int, *, max_steps: int = 3_000_000
    ) -> None:
        self.size = size
        self._read_at = read_at
        self._steps_left = max_steps
        self._block = b""
        self._block_at = 0

    @classmethod
    def over(cls, data: bytes) -> "Reader":
        """Return a reader of bytes in memory."""
        return cls(lambda offset, length: data[offset : offset + length], len(data))

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes; raises Malformed if the file has no such bytes."""
        begin = self._reach(offset, length)
        return self._block[begin : begin + length]

    def u32(self, offset: int) -> int:
        """Return an unsigned 32-bit number, little-endian; raises Malformed."""
        begin = self._reach(offset, 4)
        return int(_U32.unpack_from(self._block, begin)[0])

    def u64(self, offset: int) -> int:
        """Return an unsigned 64-bit number, little-endian; raises Malformed."""
        begin = self._reach(offset, 8)
        return int(_U64.unpack_from(self._block, begin)[0])

    def varint(self, offset: int) -> tuple[int, int]:
        """Return a Protocol Buffers varint and the offset behind it; raises Malformed."""
        begin = self._reach(offset, 1)
        if (first := self._block[begin]) < 0x80:  # nearly always, and worth it
            return first, offset + 1
        value = 0
        for index, byte in enumerate(self.bytes_at(offset, min(10, self.size - offset))):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, offset + index + 1
        raise Malformed("a varint has no end")

    def _reach(self, offset: int, length: int) -> int:
        """Have these bytes in the block; return where they begin in it."""
        self._steps_left -= 1
        if self._steps_left < 0 or not 0 <= offset <= offset + length <= self.size:
            raise Malformed("too many steps, or past the end")
        begin = offset - self._block_at
        if begin < 0 or begin + length > len(self._block):
            self._block = self._read_at(offset, min(max(length, _BLOCK_BYTES), self.size - offset))
            self._block_at, begin = offset, 0
            if len(self._block) < length:
                raise Malformed("the file became shorter")
        return begin
