"""Chunks are read again, and are still what was scanned, or are refused."""

import os
import random
from pathlib import Path

import pytest
from blake3 import blake3

from benchmarks.chunking.files import Tensor, safetensors
from federation.chunking.package import PackageReader, read_chunk
from federation.chunking.scan import scan_directory
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.manifest import chunks_of, distinct_chunks

RANDOM = random.Random(5).randbytes(1 << 20)
TENSORS = [
    Tensor("a", "BF16", (100_000,), RANDOM[:200_000]),
    Tensor("b", "F32", (25_000,), RANDOM[200_000:300_000]),
    Tensor("c", "I8", (100_000,), RANDOM[300_000:400_000]),
    Tensor("d", "F32", (10,), RANDOM[400_000:400_040]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.safetensors").write_bytes(safetensors(TENSORS))
    (tmp_path / "other").write_bytes(RANDOM * 4)
    return tmp_path


def test_every_chunk_once_more(folder: Path) -> None:
    manifest = scan_directory(folder, "m")
    with PackageReader(folder, manifest) as reader:
        for digest, length in distinct_chunks(manifest).items():
            data = reader.chunk(digest)
            assert (blake3(data).digest(), len(data)) == (digest, length)
        with pytest.raises(NotFound):
            reader.chunk(bytes(32))
    for entry in manifest.files:
        whole = (folder / entry.path).read_bytes()
        count = len(list(chunks_of(entry)))
        assert b"".join(read_chunk(folder, entry, n) for n in range(count)) == whole
        with pytest.raises(NotFound):
            read_chunk(folder, entry, count)


def test_widths(folder: Path) -> None:
    manifest = scan_directory(folder, "m")
    with PackageReader(folder, manifest) as reader:
        widths = [reader.width(chunk.digest) for chunk in chunks_of(manifest.files[0])]
        assert widths == [0, 2, 4, 0, 4]
        assert {reader.width(chunk.digest) for chunk in chunks_of(manifest.files[1])} == {0}


@pytest.mark.parametrize("change", ["flipped", "shorter", "gone", "link"])
def test_what_changed_is_refused(folder: Path, change: str) -> None:
    manifest = scan_directory(folder, "m")
    path = folder / "other"
    digest = list(chunks_of(manifest.files[1]))[-1].digest
    if change == "flipped":
        with path.open("r+b") as file:
            file.seek(-1, 2)
            file.write(bytes((RANDOM[-1] ^ 1,)))
    elif change == "shorter":
        os.truncate(path, 5)
    else:
        path.unlink()
        if change == "link":
            path.symlink_to(folder / "m.safetensors")
    expected: type[Exception] = Invalid if change == "link" else Conflict
    with PackageReader(folder, manifest) as reader, pytest.raises(expected):
        reader.chunk(digest)
    with pytest.raises(expected):
        read_chunk(folder, manifest.files[1], len(list(chunks_of(manifest.files[1]))) - 1)
