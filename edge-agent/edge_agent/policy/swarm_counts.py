"""How many hold each piece, for all pieces at once.

Input: bitmaps, one of each holder. Output: the rarest of some pieces. A count is spread over
bitmaps (bit-sliced): the first has the lowest bit of every piece's count, and so on, so that a
holder of thousands of pieces is added with a few operations on long numbers.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_


class Counts:
    """The count of holders of each piece; bitmaps are numbers, lowest bit first."""

    __slots__ = ("_planes",)

    def __init__(self, holders: Iterable[int] = ()) -> None:
        self._planes: list[int] = []
        for bits in holders:
            self.add(bits)

    def __repr__(self) -> str:
        return f"Counts(at most {2 ** len(self._planes) - 1})"

    def add(self, bits: int) -> None:
        """Count one more holder of the pieces in a bitmap."""
        for n, plane in enumerate(self._planes):
            if not bits:
                return
            self._planes[n], bits = plane ^ bits, plane & bits
        if bits:
            self._planes.append(bits)

    def rarest(self, pieces: int) -> int:
        """Return those of the pieces in a bitmap that the fewest hold."""
        for plane in reversed(self._planes):
            pieces = pieces & ~plane or pieces
        return pieces

    @property
    def common(self) -> int:
        """Bitmap of what more than one holds."""
        return reduce(or_, self._planes[1:], 0)

    def count(self, piece: int) -> int:
        """Return how many hold a piece."""
        return sum((plane >> piece & 1) << n for n, plane in enumerate(self._planes))


def first(bits: int, most: int) -> Iterator[int]:
    """Yield the first few pieces in a bitmap."""
    while bits and most:
        yield (bits & -bits).bit_length() - 1
        bits &= bits - 1
        most -= 1
