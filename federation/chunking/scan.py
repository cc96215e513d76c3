"""A directory becomes a manifest: every file is read once, cut into chunks and hashed.

Input: a directory. Output: its Manifest. Memory: two windows of 16 MiB, whatever the sizes.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from federation.chunking.cuts import Layout, layout_of
from federation.chunking.cutter import Cutter, Region, regions, regions_like, usual_cutter
from federation.chunking.reader import Reader, Span
from federation.chunking.walk import changed, list_files, open_file, read_at, readable
from federation.chunking.window import FileChanged, Window
from federation.contract.manifest import Chunk, check_manifest, pack_chunks
from federation.contract.types import FileEntry, Manifest

Progress = Callable[[int], None]


def scan_directory(
    directory: Path,
    model: str,
    *,
    progress: Progress | None = None,
    cutter: Cutter | None = None,
    like: Manifest | None = None,
) -> Manifest:
    """Read and hash every file below `directory`; `progress` hears how many bytes were read
    since its last call. For a weight delta, `like` is the old version: files of the same path and
    size are cut as they were there (`delta.bases`).

    Raises Invalid on links and special files, Conflict if a file changes while it is read.
    """
    cutter = cutter or usual_cutter()
    paths = list(list_files(directory))
    layouts = read_layouts(directory, paths)
    old = {(entry.path, entry.size): entry for entry in like.files} if like else {}
    with ThreadPoolExecutor(1, thread_name_prefix="whole-file-hash") as second:
        scanner = _Scanner(directory, cutter, Window(second, progress or _silent), old)
        files = tuple(scanner.entry(path, layouts.get(path, ())) for path in paths)
    return check_manifest(Manifest(model=model, files=files, chunker=cutter.name))


def read_layouts(directory: Path, paths: Iterable[str]) -> dict[str, tuple[Span, ...]]:
    """Return where the tensors of the files lie, also of those that another file tells of."""
    layouts: dict[str, tuple[Span, ...]] = {}
    for path in paths:
        layout = _layout(directory, path)
        told = {
            posixpath.normpath(posixpath.join(posixpath.dirname(path), beside)): spans
            for beside, spans in layout.beside.items()
        }
        for place, spans in {path: layout.spans, **told}.items():
            if spans:
                layouts[place] = tuple(sorted({*layouts.get(place, ()), *spans}))
    return layouts


def _layout(directory: Path, path: str) -> Layout:
    with open_file(directory, path) as file, readable(path):
        size = file.seek(0, 2)
        return layout_of(path, Reader(lambda offset, length: read_at(file, offset, length), size))


@dataclass(frozen=True, slots=True)
class _Scanner:
    directory: Path
    cutter: Cutter
    window: Window
    old: Mapping[tuple[str, int], FileEntry]

    def entry(self, path: str, spans: Sequence[Span]) -> FileEntry:
        """Read one file."""
        try:
            with open_file(self.directory, path) as file, readable(path):
                size = self.window.open(file)
                old = self.old.get((path, size))
                parts = regions_like(old) if old else regions(size, spans)
                chunks = pack_chunks(chunk for part in parts for chunk in self._chunks(part))
                whole, classic = self.window.digests()
        except FileChanged:
            raise changed(path) from None
        return FileEntry(path=path, size=size, blake3=whole, sha256=classic, chunks=chunks)

    def _chunks(self, region: Region) -> Iterator[Chunk]:
        at = region.start
        while at < region.end:
            run = self.window.run(at, region.end)
            for length in self.cutter.lengths(region, run, last=at + len(run) == region.end):
                yield Chunk(blake3(run[:length]).digest(), length)
                run, at = run[length:], at + length


def _silent(_: int) -> None:
    pass
