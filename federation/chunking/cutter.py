"""Where a file is cut into chunks: at tensors, and inside of them where the content says so.

Input: a file's size and the spans of its tensors; then its bytes, window by window. Output: lengths
of chunks that make up the file exactly. What is cut where is a hint, never a matter of trust: a
chunk is known by its digest.

Cuts at tensors keep a change of one tensor from touching its neighbours; content-defined cuts
(FastCDC 2020, Xia et al., IEEE TPDS 31(9)) find the rest of a tensor again behind inserted bytes.
Small tensors share a chunk. `benchmarks.chunking` shows what that is worth.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyfastcdc

from federation.chunking.reader import Span
from federation.contract.manifest import chunks_of
from federation.contract.types import FileEntry

AVERAGE_BYTES = 1 << 20
PACK_BYTES = 64 << 10
MAX_CUT_BYTES = 4 << 20  # of a chunk: 4 times the average, as usual
# A change of rules or library must change the number at the end: it costs one full transfer.
CONTENT_DEFINED = "tensor+fastcdc2020/1MiB/64KiB#1"
FIXED = "tensor+fixed/1MiB/64KiB#1"

# Lengths of chunks from the start of a run of bytes. If the run is not the last of its region, what
# might become longer with more bytes is left out.
Divide = Callable[[memoryview, bool], Iterator[int]]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a file that is cut by itself; `whole` = it is one chunk."""

    start: int
    end: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Cutter:
    """The rules that cut files. `name` goes into the manifest."""

    name: str
    divide: Divide

    def lengths(self, region: Region, run: memoryview, *, last: bool) -> Iterator[int]:
        """Yield lengths of chunks for a run of a region's bytes; together they make it up if it is
        the last. A chunk is cut the same wherever the runs end, if they are ≥ MAX_CUT_BYTES."""
        if not region.whole:
            yield from self.divide(run, last)
        elif last:
            yield len(run)


def usual_cutter() -> Cutter:
    """Return the content-defined cutter; pieces of fixed size where its library is not compiled."""
    if pyfastcdc.FastCDC.__module__.startswith("pyfastcdc.cy."):  # pure Python: 100 times slower
        return Cutter(CONTENT_DEFINED, divide_by_content)
    return Cutter(FIXED, divide_evenly)


def divide_by_content(run: memoryview, last: bool) -> Iterator[int]:  # noqa: FBT001 (see Divide)
    """Cut where the content says."""
    left = len(run)
    chunks = pyfastcdc.FastCDC(AVERAGE_BYTES, max_size=MAX_CUT_BYTES).cut_buf(run)
    while left >= (1 if last else MAX_CUT_BYTES):
        length = next(chunks).length
        yield length
        left -= length


def divide_evenly(run: memoryview, last: bool) -> Iterator[int]:  # noqa: FBT001 (see Divide)
    """Cut into pieces of AVERAGE_BYTES."""
    whole, rest = divmod(len(run), AVERAGE_BYTES)
    yield from (AVERAGE_BYTES for _ in range(whole))
    if rest and last:
        yield rest


def regions(size: int, spans: Sequence[Span]) -> Iterator[Region]:
    """Yield the regions of a file, from first to last, without gaps: tensors of PACK_BYTES or more,
    and runs of smaller ones, closed when they hold PACK_BYTES."""
    edges = {edge for span in spans for edge in (span.start, span.end) if 0 < edge < size}
    start = before = 0
    for edge in sorted(edges | {size} - {0}):
        if edge - before >= PACK_BYTES:
            if start < before:
                yield Region(start, before, whole=True)
            yield Region(before, edge, whole=False)
            start = edge
        elif edge - start >= PACK_BYTES:
            yield Region(start, edge, whole=True)
            start = edge
        before = edge
    if start < size:
        yield Region(start, size, whole=True)


def regions_like(entry: FileEntry) -> Iterator[Region]:
    """Yield the chunks of another version of the file as regions. The same size means the same
    tensors at the same places, as in a fine-tune; then each chunk has an old one to be told
    against. What is not so costs bytes on the wire, nothing else."""
    start = 0
    for chunk in chunks_of(entry):
        whole = chunk.length <= MAX_CUT_BYTES
        yield Region(start, start + chunk.length, whole=whole)
        start += chunk.length
