"""Ways to cut a package, side by side.

Input: the files of a version. Output: its chunks, digest to length, as each way would have them.
"""

from collections.abc import Callable, Iterator

import pyfastcdc
from blake3 import blake3

from benchmarks.chunking.pairs import Files

Lengths = Callable[[bytes], Iterator[int]]
Chunks = dict[bytes, int]
KIB, MIB = 1 << 10, 1 << 20


def fixed(size: int) -> Lengths:
    """Return the way that cuts every `size` bytes from the start of a file."""

    def lengths(data: bytes) -> Iterator[int]:
        for at in range(0, len(data), size):
            yield min(size, len(data) - at)

    return lengths


def by_content(average: int) -> Lengths:
    """Return the way that cuts by content alone."""

    def lengths(data: bytes) -> Iterator[int]:
        cutter = pyfastcdc.FastCDC(average, min_size=min(average // 4, MIB), max_size=average * 4)
        return (chunk.length for chunk in cutter.cut_buf(memoryview(data)))

    return lengths


OTHERS: dict[str, Lengths] = {
    "fixed 1M": fixed(MIB),
    "fixed 4M": fixed(4 * MIB),
    "fixed 16M": fixed(16 * MIB),
    "cdc 64K": by_content(64 * KIB),
    "cdc 1M": by_content(MIB),
}


def chunks_of(files: Files, lengths: Lengths) -> Chunks:
    """Return the chunks of all files, each once."""
    chunks: Chunks = {}
    for data in files.values():
        view, at = memoryview(data), 0
        for length in lengths(data):
            chunks[blake3(view[at : at + length]).digest()] = length
            at += length
    return chunks
