"""Chunks make up any file exactly, wherever windows end; small tensors share one."""

import random
from collections.abc import Iterator
from itertools import pairwise

import pyfastcdc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.chunking import cutter
from federation.chunking.cutter import (
    AVERAGE_BYTES,
    MAX_CUT_BYTES,
    PACK_BYTES,
    Cutter,
    Region,
    divide_by_content,
    divide_evenly,
    regions,
    regions_like,
    usual_cutter,
)
from federation.chunking.reader import Span
from federation.contract.manifest import Chunk, pack_chunks
from federation.contract.types import FileEntry

BOTH = [
    pytest.param(Cutter(cutter.CONTENT_DEFINED, divide_by_content), id="content"),
    pytest.param(Cutter(cutter.FIXED, divide_evenly), id="fixed"),
]
SIZES = st.one_of(
    st.integers(0, 10), st.integers(0, 4 * PACK_BYTES), st.integers(0, 3 * AVERAGE_BYTES)
)


@given(st.integers(0, 1 << 22), st.lists(st.tuples(st.integers(-9, 1 << 23), SIZES), max_size=40))
def test_regions_tile_a_file_whatever_the_spans(size: int, raw: list[tuple[int, int]]) -> None:
    spans = [Span(start, start + length) for start, length in raw]
    found = list(regions(size, spans))
    assert [r.start for r in found] == [0, *(r.end for r in found)][: len(found)]
    assert (found[-1].end if found else 0) == size
    assert all(r.start < r.end for r in found)
    assert all(r.end - r.start < 2 * PACK_BYTES for r in found if r.whole)
    assert all(r.end - r.start >= PACK_BYTES for r in found if not r.whole)
    small_neighbours = [(a, b) for a, b in pairwise(found) if a.whole and b.whole]
    assert all(a.end - a.start >= PACK_BYTES for a, b in small_neighbours)


def test_large_tensors_stand_alone_and_small_ones_share() -> None:
    kib = 1024
    spans = [
        Span(100, 100 + 10 * kib),
        Span(100 + 10 * kib, 100 + 20 * kib),
        Span(100 + 20 * kib, 100 + 220 * kib),
        Span(100 + 220 * kib, 100 + 221 * kib),
    ]
    assert list(regions(100 + 221 * kib, spans)) == [
        Region(0, 100 + 20 * kib, whole=True),
        Region(100 + 20 * kib, 100 + 220 * kib, whole=False),
        Region(100 + 220 * kib, 100 + 221 * kib, whole=True),
    ]


DATA = random.Random(7).randbytes(24 << 20)
KNOWN = [848218, 2257769, 1182347, 1903461, 1082757, 1114056]  # of the first 8 MiB


def _in_windows(rules: Cutter, region: Region, data: bytes, window: int) -> Iterator[int]:
    """Cut as the scanner does, which never sees more than a window."""
    at = region.start
    while at < region.end:
        run = memoryview(data)[at : min(at + window, region.end)]
        for length in rules.lengths(region, run, last=at + len(run) == region.end):
            yield length
            at += length


@pytest.mark.parametrize("rules", BOTH)
@given(
    start=st.integers(0, 1 << 20),
    length=st.integers(PACK_BYTES, 23 << 20),
    window=st.integers(MAX_CUT_BYTES, 24 << 20),
)
@settings(max_examples=15, deadline=None)
def test_windows_change_nothing(rules: Cutter, start: int, length: int, window: int) -> None:
    region = Region(start, start + length, whole=False)
    lengths = list(_in_windows(rules, region, DATA, window))
    assert sum(lengths) == length
    assert all(0 < n <= MAX_CUT_BYTES for n in lengths)
    assert lengths == list(_in_windows(rules, region, DATA, 25 << 20))


def test_a_whole_region_is_one_chunk() -> None:
    rules = usual_cutter()
    assert list(rules.lengths(Region(0, 9, whole=True), memoryview(DATA)[:9], last=True)) == [9]
    assert list(rules.lengths(Region(0, 9, whole=True), memoryview(DATA)[:5], last=False)) == []


def test_cuts_by_content_are_found_again_behind_inserted_bytes() -> None:
    rules, whole = usual_cutter(), Region(0, len(DATA), whole=False)
    longer = DATA[:1000] + b"more" + DATA[1000:]
    shifted = Region(0, len(longer), whole=False)

    def chunks(region: Region, data: bytes) -> set[bytes]:
        at, found = 0, set()
        for length in _in_windows(rules, region, data, 8 << 20):
            found.add(data[at : at + length])
            at += length
        return found

    before, after = chunks(whole, DATA), chunks(shifted, longer)
    assert len(after - before) <= 2
    mean = len(DATA) / len(before)
    assert 0.7 * AVERAGE_BYTES < mean < 2 * AVERAGE_BYTES


def test_without_the_compiled_library_pieces_are_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usual_cutter().name == "tensor+fastcdc2020/1MiB/64KiB#1"

    class Slow:
        pass

    Slow.__module__ = "pyfastcdc.py.fastcdc"
    monkeypatch.setattr(pyfastcdc, "FastCDC", Slow)
    assert usual_cutter() == Cutter("tensor+fixed/1MiB/64KiB#1", divide_evenly)


def test_the_rules_of_the_name_are_those_that_cut() -> None:
    """Another library or rule under the same name would cost every model one full transfer."""
    lengths = list(_in_windows(usual_cutter(), Region(0, 8 << 20, whole=False), DATA, 8 << 20))
    assert lengths == KNOWN


def test_a_file_cut_like_another() -> None:
    chunks = [Chunk(bytes(32), n) for n in (5, 7, 5 << 20)]
    size = sum(chunk.length for chunk in chunks)
    entry = FileEntry(path="x", size=size, blake3="", sha256="", chunks=pack_chunks(chunks))
    assert list(regions_like(entry)) == [
        Region(0, 5, whole=True),
        Region(5, 12, whole=True),
        Region(12, size, whole=False),  # more than a window is sure to hold
    ]
