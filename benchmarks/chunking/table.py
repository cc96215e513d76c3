"""How many bytes travel for each pair, by each way of cutting.

Input: pairs, written to a scratch directory and scanned as a push does. Output: rows.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chunking.pairs import Files, Pair
from benchmarks.chunking.rivals import OTHERS, chunks_of
from federation.chunking import delta
from federation.chunking.cutter import FIXED, Cutter, divide_evenly
from federation.chunking.encoding import shrink
from federation.chunking.package import PackageReader
from federation.chunking.scan import scan_directory
from federation.contract.manifest import distinct_chunks
from federation.contract.types import Manifest

OURS = "ours"
WITHOUT = "ours, no library"  # what is left where FastCDC is not compiled


@dataclass(frozen=True, slots=True)
class Row:
    """Bytes that travel for a pair, by way of cutting; and what our chunks and encodings make."""

    pair: str
    size: int
    changed: int
    runs: int
    travels: dict[str, int]
    chunks: int  # ours, of the new version
    largest_chunk: int  # ours, of those that travel
    manifest_bytes: int
    encoded: int | None = None  # ours, new chunks as they are sent
    weight_delta: int | None = None  # the same with the old tensors as base


def row_of(pair: Pair, folder: Path, *, encodings: bool = False) -> Row:
    """Measure a pair; `folder` is scratch."""
    old, old_fixed = _scanned(pair.old, folder / "old")
    new, new_fixed = _scanned(pair.new, folder / "new")
    found = delta.compare(old, new)
    fresh = delta.new_chunks(old, new)
    travels = dict.fromkeys(OTHERS, 0)
    for name, lengths in OTHERS.items():
        there = chunks_of(pair.old, lengths)
        here = chunks_of(pair.new, lengths)
        travels[name] = sum(length for digest, length in here.items() if digest not in there)
    encoded = weight_delta = None
    if encodings:
        encoded = _sent(folder / "new", new, dict.fromkeys(fresh, b""), folder / "old", old)
        like = scan_directory(folder / "new", "m", like=old)
        bases = delta.bases(old, like)
        wanted = {digest: bases.get(digest, b"") for digest in delta.new_chunks(old, like)}
        weight_delta = _sent(folder / "new", like, wanted, folder / "old", old)
    return Row(
        pair=pair.name,
        size=new.size,
        changed=pair.changed,
        runs=pair.runs,
        travels={
            **travels,
            WITHOUT: delta.compare(old_fixed, new_fixed).bytes,
            OURS: found.bytes,
        },
        chunks=len(distinct_chunks(new)),
        largest_chunk=max(fresh.values(), default=0),
        manifest_bytes=sum(len(entry.chunks) for entry in new.files),
        encoded=encoded,
        weight_delta=weight_delta,
    )


def _scanned(files: Files, folder: Path) -> tuple[Manifest, Manifest]:
    shutil.rmtree(folder, ignore_errors=True)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    fixed = Cutter(FIXED, divide_evenly)
    return scan_directory(folder, "m"), scan_directory(folder, "m", cutter=fixed)


def _sent(
    folder: Path, new: Manifest, wanted: dict[bytes, bytes], old_folder: Path, old: Manifest
) -> int:
    """Return how long the stored forms of chunks are, each told against its base, if any."""
    total = 0
    with PackageReader(folder, new) as reader, PackageReader(old_folder, old) as bases:
        for digest, base in wanted.items():
            against = bases.chunk(base) if base else b""
            _, stored = shrink(reader.chunk(digest), reader.width(digest), against)
            total += len(stored)
    return total


def lines(rows: list[Row]) -> Iterator[str]:
    """Yield the table in Markdown: shares of the new version in percent."""
    ways = [*OTHERS, WITHOUT, OURS]
    yield f"| pair | changed | {' | '.join(ways)} |"
    yield "|---|" + "---|" * (len(ways) + 1)
    for row in rows:
        cells = [f"{100 * row.travels[way] / row.size:.2f}" for way in ways]
        yield f"| {row.pair} | {100 * row.changed / row.size:.2f} | {' | '.join(cells)} |"
    sums = [f"{sum(row.travels[way] for row in rows) / 1e6:.0f}" for way in ways]
    changed = sum(row.changed for row in rows) / 1e6
    yield f"| **all, MB** | {changed:.0f} | {' | '.join(sums)} |"
