"""Who gets which piece of a package from the origin, for a whole region.

Input: the names that can own pieces, the package's digest. Output: the rank of owners for a piece,
and the pieces that each owns.

Everybody who knows the same names finds the same owners, without a word about it (rendezvous
hashing): of many names the first few by BLAKE3(digest, name), and for a piece the first three of
these by BLAKE3(digest, piece, name). A few are enough to fill a link from the origin, and the fewer
pieces come side by side, the sooner the first is whole and can be passed on.
"""

import heapq
from collections.abc import Iterable

from blake3 import blake3

RANKS = 3
MOST = 16  # owners

_Rank = tuple[tuple[bytes, str], ...]  # the hash and the name of each


class Owners:
    """The owners of the pieces of one package. `generation` counts their changes."""

    def __init__(self, digest: str, *, most: int = MOST) -> None:
        self.names: frozenset[str] = frozenset()
        self.generation = 0
        self._key, self._most = bytes.fromhex(digest), most
        self._places: dict[str, bytes] = {}  # of all names so far
        self._ranks: dict[int, _Rank] = {}
        self._owned: dict[str, int] = {}  # bitmaps of those that were looked at
        self._looked = 0

    def __repr__(self) -> str:
        return f"Owners({', '.join(sorted(self.names))})"

    def elect(self, names: Iterable[str]) -> None:
        """Take over who can own pieces; ranks that are known are kept as far as they hold."""
        chosen = frozenset(heapq.nsmallest(self._most, names, key=self._place))
        if chosen == self.names:
            return
        gone, come = self.names - chosen, chosen - self.names
        self.names, self._owned, self._looked = chosen, {}, 0
        self.generation += 1
        if gone:
            kept = self._ranks.items()
            self._ranks = {p: rank for p, rank in kept if not any(n in gone for _, n in rank)}
        for piece, rank in self._ranks.items() if come else ():
            self._ranks[piece] = self._best(piece, rank, come)

    def rank(self, piece: int) -> tuple[str, ...]:
        """Return the first owners of a piece, best first; empty if there is none at all."""
        found = self._ranks.get(piece)
        if found is None:
            found = self._ranks[piece] = self._best(piece, (), self.names)
        return tuple(name for _, name in found)

    def turn(self, piece: int, name: str) -> float:
        """Return when it is a name's turn at a piece that others should have got: its place in the
        rank, and for all others a number between once and twice `RANKS`."""
        rank = self.rank(piece)
        if name in rank:
            return float(rank.index(name))
        return RANKS * (1 + self._hash(piece, name)[0] / 256)

    def look(self, pieces: int, most: int) -> None:
        """Find the owners of up to `most` more pieces of a bitmap: `owned` tells of these."""
        left = pieces & ~self._looked if self.names else 0
        while left and most:
            bit = left & -left
            left ^= bit
            most -= 1
            self._looked |= bit
            owner = self.rank(bit.bit_length() - 1)[0]
            self._owned[owner] = self._owned.get(owner, 0) | bit

    def owned(self, name: str) -> int:
        """Return a bitmap of the pieces of an owner, of those that were looked at."""
        return self._owned.get(name, 0)

    def _place(self, name: str) -> bytes:
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = blake3(self._key + name.encode()).digest()
        return found

    def _hash(self, piece: int, name: str) -> bytes:
        return blake3(self._key + piece.to_bytes(8, "little") + name.encode()).digest()

    def _best(self, piece: int, rank: _Rank, names: Iterable[str]) -> _Rank:
        found = [(self._hash(piece, name), name) for name in names]
        return tuple(heapq.nsmallest(RANKS, [*rank, *found]))
