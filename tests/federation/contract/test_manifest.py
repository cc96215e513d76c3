"""Scanning a directory, the canonical bytes, and what a hostile manifest may not say."""

import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3

from federation.contract.errors import Invalid
from federation.contract.manifest import (
    check_manifest,
    manifest_bytes,
    manifest_digest,
    parse_manifest,
    scan_directory,
)
from federation.contract.types import FileEntry, Manifest

HASH = "0" * 64


def entry(path: str, **changes: object) -> FileEntry:
    values: dict[str, object] = {"path": path, "size": 1, "blake3": HASH, "sha256": HASH, **changes}
    return FileEntry(**values)  # type: ignore[arg-type]  # the table below breaks types on purpose


def test_scan_hashes_every_file_and_skips_bytecode(tmp_path: Path) -> None:
    (tmp_path / "sub" / "__pycache__").mkdir(parents=True)
    (tmp_path / "sub" / "__pycache__" / "x.pyc").write_bytes(b"no")
    (tmp_path / "sub" / "b.bin").write_bytes(b"bytes")
    (tmp_path / "a.txt").write_bytes(b"")
    manifest = scan_directory(tmp_path, "m")
    assert [(e.path, e.size) for e in manifest.files] == [("a.txt", 0), ("sub/b.bin", 5)]
    assert manifest.files[1].blake3 == blake3(b"bytes").hexdigest()
    assert manifest.files[1].sha256 == hashlib.sha256(b"bytes").hexdigest()


def test_bytes_round_trip_and_the_digest_depends_on_content_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    manifest = scan_directory(tmp_path, "m")
    assert parse_manifest(manifest_bytes(manifest)) == manifest
    os.utime(tmp_path / "a", (1, 1))
    assert manifest_digest(scan_directory(tmp_path, "m")) == manifest_digest(manifest)
    (tmp_path / "a").write_bytes(b"2")
    assert manifest_digest(scan_directory(tmp_path, "m")) != manifest_digest(manifest)


@pytest.mark.parametrize("kind", ["file", "folder", "dangling", "fifo"])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "real").mkdir()
    if kind == "fifo":
        os.mkfifo(tmp_path / "odd")
    else:
        target = {"file": __file__, "folder": "real", "dangling": "nowhere"}[kind]
        (tmp_path / "odd").symlink_to(target)
    with pytest.raises(Invalid, match="'odd' is a link or a special file"):
        scan_directory(tmp_path, "m")


@pytest.mark.parametrize(
    "files",
    [
        (entry("../x"),),
        (entry("/x"),),
        (entry("a"), entry("a")),
        (entry("b"), entry("a")),
        (entry("a", size=-1),),
        (entry("a", blake3="short"),),
        (entry("a", sha256="short"),),
    ],
)
def test_hostile_manifests_are_refused(files: tuple[FileEntry, ...]) -> None:
    with pytest.raises(Invalid):
        check_manifest(Manifest(model="m", files=files))
    with pytest.raises(Invalid):
        parse_manifest(manifest_bytes(Manifest(model="m", files=files)))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"model": 1, "files": []}', b'"\xff'])
def test_malformed_bytes(data: bytes) -> None:
    with pytest.raises(Invalid, match="malformed"):
        parse_manifest(data)
