"""A directory becomes a manifest: right digests, chunks that make up the files, little memory."""

import errno
import hashlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.chunking.files import Tensor, external, safetensors
from federation.chunking import delta
from federation.chunking.cutter import FIXED, Cutter, divide_evenly
from federation.chunking.scan import read_layouts, scan_directory
from federation.chunking.window import Window
from federation.contract.errors import Conflict, Invalid
from federation.contract.manifest import chunks_of, manifest_bytes, manifest_digest, parse_manifest
from federation.contract.types import FileEntry

RANDOM = random.Random(3).randbytes(3 << 20)


def check(entry: FileEntry, data: bytes) -> list[int]:
    """Assert that an entry is that of `data`; return the lengths of its chunks."""
    assert (entry.size, entry.blake3) == (len(data), blake3(data).hexdigest())
    assert entry.sha256 == hashlib.sha256(data).hexdigest()
    at = 0
    for chunk in chunks_of(entry):
        assert blake3(data[at : at + chunk.length]).digest() == chunk.digest
        at += chunk.length
    assert at == len(data)
    return [chunk.length for chunk in chunks_of(entry)]


def test_files_are_hashed_and_cut(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    files = {"a.txt": b"", "sub/b.bin": b"bytes", "sub/c.bin": RANDOM, "d": RANDOM * 8}
    for path, data in files.items():
        (tmp_path / path).write_bytes(data)
    manifest = scan_directory(tmp_path, "m")
    assert [entry.path for entry in manifest.files] == sorted(files)
    for entry in manifest.files:
        check(entry, files[entry.path])
    assert (manifest.model, manifest.chunker) == ("m", "tensor+fastcdc2020/1MiB/64KiB#1")
    assert parse_manifest(manifest_bytes(manifest)) == manifest


def test_the_digest_depends_on_content_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    manifest = scan_directory(tmp_path, "m")
    os.utime(tmp_path / "a", (1, 1))
    assert manifest_digest(scan_directory(tmp_path, "m")) == manifest_digest(manifest)
    (tmp_path / "a").write_bytes(b"2")
    assert manifest_digest(scan_directory(tmp_path, "m")) != manifest_digest(manifest)


def test_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "odd").symlink_to(__file__)
    with pytest.raises(Invalid, match="'odd' is a link or a special file"):
        scan_directory(tmp_path, "m")


def test_names_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    for name in ("a", "A"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(Invalid, match="some disks hold only one"):
        scan_directory(tmp_path, "m")


def test_tensors_are_cut_apart(tmp_path: Path) -> None:
    tensors = [
        Tensor("a", "I8", (200_000,), RANDOM[:200_000]),
        Tensor("b", "I8", (10,), RANDOM[:10]),
        Tensor("c", "I8", (100_000,), RANDOM[:100_000]),
    ]
    data = safetensors(tensors)
    (tmp_path / "m.safetensors").write_bytes(data)
    (entry,) = scan_directory(tmp_path, "m").files
    assert check(entry, data) == [len(data) - 300_010, 200_000, 10, 100_000]


def test_tensors_of_an_onnx_model_in_a_file_beside_it(tmp_path: Path) -> None:
    tensors = [Tensor(name, "F32", (75_000,), RANDOM[:300_000]) for name in "ab"]
    files = external(tensors, "m.onnx")
    (tmp_path / "sub").mkdir()
    for name, data in files.items():
        (tmp_path / "sub" / name).write_bytes(data)
    entry = scan_directory(tmp_path, "m").files[1]
    assert check(entry, files["m.onnx.data"]) == [300_000, 3104, 300_000]
    spans = read_layouts(tmp_path, ["sub/m.onnx", "sub/m.onnx.data"])["sub/m.onnx.data"]
    assert [(span.start, span.width) for span in spans] == [(0, 4), (303_104, 4)]


@given(st.binary(max_size=300), st.sampled_from(["safetensors", "gguf", "onnx", "onnx.data"]))
@settings(max_examples=60, deadline=None)
def test_any_bytes_under_any_name(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, ending: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    data = head + RANDOM[:200_000]
    (folder / f"x.{ending}").write_bytes(data)
    (entry,) = scan_directory(folder, "m").files
    check(entry, data)


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(RANDOM * 7)
    (tmp_path / "b").write_bytes(b"12")
    told: list[int] = []
    manifest = scan_directory(tmp_path, "m", progress=told.append)
    assert sum(told) == manifest.size
    assert len(told) == 3


def test_stopping_in_the_middle_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(RANDOM * 7)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan_directory(tmp_path, "m", progress=stop)
    assert not [t for t in threading.enumerate() if t.name.startswith("whole-file-hash")]


@pytest.mark.parametrize("change", ["grow", "shrink", "write", "gone"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: str) -> None:
    (tmp_path / "a").write_bytes(RANDOM * 7)
    (tmp_path / "b").write_bytes(b"1")

    def interfere(_: int) -> None:
        if change == "gone":
            (tmp_path / "b").unlink(missing_ok=True)
        elif change == "shrink":
            os.truncate(tmp_path / "a", 10)
        else:
            with (tmp_path / "a").open("r+b") as file:
                file.seek(0, 2 if change == "grow" else 0)
                file.write(b"more")

    with pytest.raises(Conflict, match="changed while it was read"):
        scan_directory(tmp_path, "m", progress=interfere)


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(RANDOM)

    def fail(*_: object) -> memoryview:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Window, "run", fail)
    with pytest.raises(Invalid, match="'a' cannot be read: Input/output error"):
        scan_directory(tmp_path, "m")


def test_other_rules_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(RANDOM)
    manifest = scan_directory(tmp_path, "m", cutter=Cutter(FIXED, divide_evenly))
    assert manifest.chunker == FIXED
    assert check(manifest.files[0], RANDOM) == [1 << 20] * 3


def test_a_version_cut_like_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(RANDOM)
    (tmp_path / "b").write_bytes(RANDOM)
    old = scan_directory(tmp_path, "m")
    other = random.Random(4).randbytes(len(RANDOM))
    (tmp_path / "a").write_bytes(other)
    (tmp_path / "b").write_bytes(other + b"1")
    new = scan_directory(tmp_path, "m", like=old)
    lengths = [chunk.length for chunk in chunks_of(old.files[0])]
    assert check(new.files[0], other) == lengths
    assert check(new.files[1], other + b"1") != lengths
    assert delta.bases(old, new) == {
        chunk.digest: base.digest
        for chunk, base in zip(chunks_of(new.files[0]), chunks_of(old.files[0]), strict=True)
    }


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    """A sparse file of 256 MiB; the peak (Linux: VmHWM) is that of a process, with its imports."""
    with (tmp_path / "x.bin").open("wb") as file:
        file.truncate(256 << 20)
    code = (
        "import sys; from pathlib import Path\n"
        "from federation.chunking.scan import scan_directory\n"
        "scan_directory(Path(sys.argv[1]), 'm')\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=50)
    assert int(answer.stdout) < 100 * 1024  # KiB
