"""The window shows the file's bytes, hashes each once, and notices changes."""

import hashlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3

from federation.chunking import window as module
from federation.chunking.walk import open_file
from federation.chunking.window import FileChanged, Window

DATA = random.Random(1).randbytes(100_000)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Window, list[int]]]:
    """A window of 16 KB that promises 4 KB, and what it told of its progress."""
    monkeypatch.setattr(module, "WINDOW_BYTES", 16_000)
    monkeypatch.setattr(module, "MAX_CUT_BYTES", 4_000)
    told: list[int] = []
    with ThreadPoolExecutor(1) as second:
        yield Window(second, told.append), told


def _read(window: Window, size: int, step: int) -> bytes:
    parts, at = [], 0
    while at < size:
        run = window.run(at, size)
        assert len(run) >= min(4_000, size - at)
        parts.append(bytes(run[:step]))
        at += len(parts[-1])
    return b"".join(parts)


@pytest.mark.parametrize("step", [1_000, 3_999, 100_000])
def test_runs_and_digests(tmp_path: Path, small: tuple[Window, list[int]], step: int) -> None:
    window, told = small
    for data in (DATA, b"", DATA[:5], DATA[:16_000], DATA[:16_001]):
        (tmp_path / "x").write_bytes(data)
        told.clear()
        with open_file(tmp_path, "x") as file:
            assert window.open(file) == len(data)
            assert _read(window, len(data), step) == data
            expected = blake3(data).hexdigest(), hashlib.sha256(data).hexdigest()
            assert window.digests() == expected
        assert sum(told) == len(data)


@pytest.mark.parametrize("at", [0, 50_000])
def test_a_file_that_becomes_shorter(
    tmp_path: Path, small: tuple[Window, list[int]], at: int
) -> None:
    window, _ = small
    (tmp_path / "x").write_bytes(DATA)
    with open_file(tmp_path, "x") as file:
        window.open(file)
        for start in range(0, at, 2_000):
            window.run(start, len(DATA))
        os.truncate(tmp_path / "x", at // 2)
        with pytest.raises(FileChanged):
            for start in range(at, len(DATA), 2_000):
                window.run(start, len(DATA))


@pytest.mark.parametrize("change", ["longer", "touched"])
def test_a_file_that_changes(tmp_path: Path, small: tuple[Window, list[int]], change: str) -> None:
    window, _ = small
    (tmp_path / "x").write_bytes(DATA)
    with open_file(tmp_path, "x") as file:
        size = window.open(file)
        if change == "longer":
            status = (tmp_path / "x").stat()
            with (tmp_path / "x").open("ab") as more:
                more.write(b"more")
            os.utime(tmp_path / "x", ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            os.utime(tmp_path / "x", (1, 1))
        _read(window, size, 2_000)
        with pytest.raises(FileChanged):
            window.digests()
