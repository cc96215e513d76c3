"""A scanned package in its directory: its chunks once more, for whoever sends them.

Input: a directory and its manifest. Output: bytes of single chunks, verified (a file that is no
longer what it was is refused), and the width of their numbers, for the encoding.
"""

from bisect import bisect_right
from pathlib import Path
from typing import BinaryIO, NamedTuple

from blake3 import blake3

from federation.chunking.reader import Span
from federation.chunking.scan import read_layouts
from federation.chunking.walk import changed, open_file, read_at, readable
from federation.contract.errors import NotFound
from federation.contract.manifest import chunks_of
from federation.contract.types import FileEntry, Manifest


class _At(NamedTuple):
    file: int
    offset: int
    length: int


class PackageReader:
    """Reads chunks by digest. Not for several threads at once; close it."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory = directory
        self._manifest = manifest
        self._places: dict[bytes, _At] = {}
        for number, entry in enumerate(manifest.files):
            offset = 0
            for chunk in chunks_of(entry):
                self._places.setdefault(chunk.digest, _At(number, offset, chunk.length))
                offset += chunk.length
        self._layouts: dict[str, tuple[Span, ...]] | None = None
        self._open: tuple[int, BinaryIO] | None = None

    def __enter__(self) -> "PackageReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def chunk(self, digest: bytes) -> bytes:
        """Return a chunk; raises Conflict if the file changed since it was scanned, NotFound for a
        digest that the manifest does not have."""
        place = self._place(digest)
        path = self._manifest.files[place.file].path
        if self._open is None or self._open[0] != place.file:
            self.close()
            self._open = place.file, open_file(self._directory, path)
        return _verified(self._open[1], path, place, digest)

    def width(self, digest: bytes) -> int:
        """Return 2 or 4 if the chunk lies in a tensor of floating point numbers of so many bytes,
        else 0."""
        place = self._place(digest)
        if self._layouts is None:
            self._layouts = read_layouts(self._directory, [e.path for e in self._manifest.files])
        spans = self._layouts.get(self._manifest.files[place.file].path, ())
        index = bisect_right(spans, place.offset, key=lambda span: span.start) - 1
        if index < 0 or place.offset + place.length > spans[index].end:
            return 0
        return spans[index].width

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _place(self, digest: bytes) -> _At:
        if (place := self._places.get(digest)) is None:
            raise NotFound(f"the package has no chunk {digest.hex()}.")
        return place


def read_chunk(directory: Path, entry: FileEntry, number: int) -> bytes:
    """Return the chunk with that number of one file; raises Conflict if it is no longer the same,
    NotFound if there is no such number."""
    offset = 0
    for index, chunk in enumerate(chunks_of(entry)):
        if index == number:
            with open_file(directory, entry.path) as file:
                place = _At(0, offset, chunk.length)
                return _verified(file, entry.path, place, chunk.digest)
        offset += chunk.length
    raise NotFound(f"{entry.path!r} has no chunk {number}.")


def _verified(file: BinaryIO, path: str, place: _At, digest: bytes) -> bytes:
    with readable(path):
        data = read_at(file, place.offset, place.length)
    if blake3(data).digest() != digest:
        raise changed(path)
    return data
