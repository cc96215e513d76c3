"""Which chunks of a package are in their places, one byte each.

Input: chunks that were verified, files that do not count any more. Output: what is missing, which
pieces are whole. It does no I/O; whoever changes it holds the lock of the files.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from edge_agent.policy.pieces import Piece
from edge_agent.sync.contents import Contents
from edge_agent.sync.views import bits


class Marks:
    """`present_bytes` is the sum over the marked chunks."""

    def __init__(self, contents: Contents, pieces: tuple[Piece, ...]) -> None:
        self._contents: Final = contents
        self._pieces: Final = pieces
        self._have = bytearray(len(contents))
        self.present_bytes = 0

    def __repr__(self) -> str:
        return f"Marks({len(self._have) - self.lacking} of {len(self._have)} chunks)"

    @property
    def lacking(self) -> int:
        """How many chunks are missing."""
        return self._have.count(0)

    def is_missing(self, number: int) -> bool:
        """Whether a chunk is not in its place."""
        return not self._have[number]

    def missing_places(self, number: int) -> Iterator[int]:
        """Yield all places of the chunk's bytes that lack them, in order."""
        return (place for place in self._contents.same(number) if not self._have[place])

    def whole(self, file: int) -> bool:
        """Whether all chunks of a file are in their places."""
        chunks = self._contents.chunks_in(file)
        return self._have.find(0, chunks.start, chunks.stop) < 0

    def mark(self, numbers: Iterable[int]) -> int:
        """Note that chunks are in their places; return how many bytes that adds."""
        added = 0
        for number in numbers:
            if not self._have[number]:
                self._have[number] = 1
                added += self._contents.chunk(number).length
        self.present_bytes += added
        return added

    def forget(self, file: int) -> None:
        """Note that nothing of a file counts any more."""
        for number in self._contents.chunks_in(file):
            if self._have[number]:
                self._have[number] = 0
                self.present_bytes -= self._contents.chunk(number).length

    def needed(self, piece: int) -> tuple[int, ...]:
        """Return the chunks to fetch for a piece: each digest once in the whole package."""
        about = self._pieces[piece]
        return tuple(
            number
            for number in range(about.first, about.first + about.count)
            if not self._have[number] and next(self.missing_places(number), None) == number
        )

    def holds(self, piece: int) -> bool:
        """Whether all chunks of a piece are in their places."""
        if not 0 <= piece < len(self._pieces):
            return False
        about = self._pieces[piece]
        return self._have.find(0, about.first, about.first + about.count) < 0

    def bitmap(self) -> bytes:
        """One bit for each piece, lowest bit of the first byte first."""
        return bits(len(self._pieces), self.holds)
