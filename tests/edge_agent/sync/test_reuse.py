"""Bytes of other packages: where they are, and how they are copied."""

import errno
import os
import random
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.sync import reuse
from edge_agent.sync.contents import Contents
from edge_agent.sync.layout import Layout, PackageName
from edge_agent.sync.reuse import Library, copy_range
from edge_agent.sync.shelf import Shelf
from tests.edge_agent.sync.packages import CHUNK, Package

DATA = random.Random(1).randbytes(8 * CHUNK)
OLD = Package({"x": DATA, "y": b"tail"})


@pytest.fixture
def library(tmp_path: Path) -> Library:
    OLD.fetch(Shelf(tmp_path))
    return Library(Layout(tmp_path), [(PackageName(*OLD.key), OLD.manifest)])


def test_neighbours_are_one_run(library: Library) -> None:
    new = Package({"n": DATA[: 3 * CHUNK] + bytes(CHUNK) + DATA[4 * CHUNK :], "z": b"tail"})
    runs = list(library.runs(Contents(new.manifest.files), lambda number: True))
    assert [(r.source_offset, r.offset, r.length, r.first, r.count) for r in runs] == [
        (0, 0, 3 * CHUNK, 0, 3),
        (4 * CHUNK, 4 * CHUNK, 4 * CHUNK, 4, 4),
        (0, 0, 4, 8, 1),
    ]
    some = list(library.runs(Contents(new.manifest.files), lambda number: number != 1))
    assert [(r.first, r.count) for r in some] == [(0, 1), (2, 1), (4, 4), (8, 1)]


def test_a_run_is_bounded(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "MAX_RUN_BYTES", 3 * CHUNK)
    runs = list(library.runs(Contents(OLD.manifest.files), lambda number: True))
    assert [r.count for r in runs] == [3, 3, 2, 1]


def test_a_chunk_is_verified(library: Library, tmp_path: Path) -> None:
    digest = blake3(DATA[:CHUNK]).digest()
    assert library.chunk(digest) == DATA[:CHUNK]
    assert library.chunk(bytes(32)) is None
    path = OLD.folder(tmp_path) / "x"
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"rot")
    assert library.chunk(digest) is None
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert library.chunk(digest) is None


@settings(max_examples=40, deadline=None)
@given(
    source=st.integers(0, 9000),
    target=st.integers(0, 9000),
    length=st.integers(0, 30_000),
    fault=st.sampled_from([0, errno.EXDEV, errno.EINVAL, errno.ENOSYS, -1, -2]),
)
def test_any_range_is_copied_whatever_the_kernel_does(
    tmp_path_factory: pytest.TempPathFactory, source: int, target: int, length: int, fault: int
) -> None:
    folder, real = tmp_path_factory.mktemp("copy"), os.copy_file_range

    def fake(src: int, dst: int, count: int, from_: int, to: int) -> int:
        if fault > 0:
            raise OSError(fault, "x")
        return 0 if fault == -2 else real(src, dst, min(count, 777) if fault else count, from_, to)

    (folder / "old").write_bytes(DATA[:40_000])
    (folder / "new").write_bytes(bytes(40_000))
    with (
        (folder / "old").open("rb") as old,
        (folder / "new").open("r+b") as new,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(os, "copy_file_range", fake)
        copy_range(old.fileno(), source, new.fileno(), target, length)
    expected = bytearray(40_000)
    expected[target : target + length] = DATA[source : source + length]
    assert (folder / "new").read_bytes() == expected


def test_blocks_are_shared_where_the_offsets_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int]] = []

    def fake(source: int, target: int, count: int, at: int, to: int) -> int:
        asked.append((count, at, to))
        return count

    monkeypatch.setattr(os, "copy_file_range", fake)
    (tmp_path / "old").write_bytes(DATA)
    with (tmp_path / "old").open("rb") as old, (tmp_path / "new").open("w+b") as new:
        copy_range(old.fileno(), 100, new.fileno(), 4096 + 100, 20_000)
        copy_range(old.fileno(), 100, new.fileno(), 101, 20_000)
    assert asked == [(12288, 4096, 8192), (20_000, 100, 101)]


def test_another_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    with (tmp_path / "new").open("w+b") as new, pytest.raises(OSError, match="x"):
        copy_range(new.fileno(), 0, new.fileno(), 0, 10)
