"""Packages as pieces that other clusters may be given: only what this process has verified.

Input: a published package. Output: verified bytes of its pieces. A staging folder offers the same
while it is being filled (`staging.Staging`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge_agent.policy.pieces import Piece, pieces_of
from edge_agent.sync.contents import Contents
from edge_agent.sync.durable import hash_range, read_all
from edge_agent.sync.layout import Folder
from federation.contract.errors import NotFound
from federation.contract.types import Manifest


class PieceReader(Protocol):
    """What a gateway serves from. Calls block; they may come from many threads."""

    @property
    def manifest(self) -> Manifest:
        """The package's manifest."""
        ...

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All pieces of the package, held or not."""
        ...

    def holds(self, piece: int) -> bool:
        """Whether the whole piece is here, as far as is known."""
        ...

    def bitmap(self) -> bytes:
        """One bit for each piece, lowest bit of the first byte first."""
        ...

    def read(self, piece: int, skip: int, length: int) -> bytes:
        """Return verified bytes of a held piece; raises NotFound."""
        ...


def bits(count: int, holds: Callable[[int], bool]) -> bytes:
    """Return one bit for each of `count` numbers, lowest bit of the first byte first."""
    out = bytearray(-(-count // 8))
    for number in range(count):
        if holds(number):
            out[number >> 3] |= 1 << (number & 7)
    return bytes(out)


def slice_of(piece: Piece, skip: int, length: int) -> tuple[int, int]:
    """Return offset and length in the file of a part of a piece; raises NotFound."""
    if skip < 0 or length < 0 or skip + length > piece.length:
        raise NotFound(f"piece {piece.number} has {piece.length} bytes.")
    return piece.offset + skip, length


class PublishedReader:
    """A published package. Each piece is hashed before its first byte is given away, once."""

    def __init__(self, path: Path, manifest: Manifest, *, verified: bool) -> None:
        self.path = path
        self.manifest = manifest
        self.pieces = pieces_of(manifest)
        self._contents = Contents(manifest.files, repeats=False)
        self._good = bytearray([verified]) * len(self.pieces)
        self._bad = bytearray(len(self.pieces))

    def __repr__(self) -> str:
        good, bad = sum(self._good), sum(self._bad)
        return f"PublishedReader({self.path}, {good} of {len(self.pieces)} verified, {bad} bad)"

    def holds(self, piece: int) -> bool:
        """Whether the piece is here; until it was read that is what the rename promised."""
        return 0 <= piece < len(self.pieces) and not self._bad[piece]

    def bitmap(self) -> bytes:
        """One bit for each piece."""
        return bits(len(self.pieces), self.holds)

    def read(self, piece: int, skip: int, length: int) -> bytes:
        """Return verified bytes; raises NotFound if the piece is damaged or the package gone."""
        if not self.holds(piece):
            raise NotFound(f"piece {piece} of {self.manifest.model} is not here.")
        about = self.pieces[piece]
        offset, length = slice_of(about, skip, length)
        try:
            with Folder.at(self.path) as folder:
                fd = folder.open_file(self.manifest.files[about.file].path)
            try:
                if not self._good[piece]:
                    self._check(about, fd)
                return read_all(fd, offset, length)
            finally:
                os.close(fd)
        except OSError as error:
            told = error.strerror or str(error)
            raise NotFound(f"piece {piece} of {self.manifest.model}: {told}.") from None

    def _check(self, piece: Piece, fd: int) -> None:
        for number in range(piece.first, piece.first + piece.count):
            chunk, (_, offset) = self._contents.chunk(number), self._contents.place(number)
            if hash_range(fd, offset, chunk.length) != chunk.digest:
                self._bad[piece.number] = 1
                raise NotFound(f"piece {piece.number} of {self.manifest.model} is damaged here.")
        self._good[piece.number] = 1
