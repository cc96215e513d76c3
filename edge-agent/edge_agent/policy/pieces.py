"""A package as pieces: what is asked of a source at once, and what clusters share among themselves.

Input: a manifest. Output: its pieces. Every agent makes the same pieces of the same manifest, so a
piece has the same number everywhere. A piece is a run of whole chunks of one file.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from federation.contract.manifest import Chunk, chunks_of
from federation.contract.types import Manifest

PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` bytes at `offset` of the file with number `file`; they are `count` chunks.

    Chunks are numbered through the whole manifest, in the order of its files; `first` is the number
    of this piece's first.
    """

    number: int
    file: int
    offset: int
    length: int
    first: int
    count: int


def pieces_of(manifest: Manifest) -> tuple[Piece, ...]:
    """Cut a package into pieces of whole chunks, of up to PIECE_BYTES or one chunk."""
    pieces: list[Piece] = []
    first = 0
    for file, entry in enumerate(manifest.files):
        offset = 0
        for run in _runs(chunks_of(entry)):
            length = sum(chunk.length for chunk in run)
            pieces.append(Piece(len(pieces), file, offset, length, first, len(run)))
            offset, first = offset + length, first + len(run)
    return tuple(pieces)


def _runs(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    run: list[Chunk] = []
    size = 0
    for chunk in chunks:
        if run and size + chunk.length > PIECE_BYTES:
            yield run
            run, size = [], 0
        run.append(chunk)
        size += chunk.length
    if run:
        yield run
