"""Files that are whole or absent; links are never followed."""

from pathlib import Path

import pytest
from blake3 import blake3

from edge_agent import packages_disk as disk
from federation.contract.errors import Invalid
from federation.contract.manifest import manifest_bytes
from federation.contract.types import FileEntry, Manifest

DATA = b"some bytes"


def entry(path: str = "a/b.bin", data: bytes = DATA) -> FileEntry:
    return FileEntry(path=path, size=len(data), blake3=blake3(data).hexdigest(), sha256="0" * 64)


def test_a_file_gets_its_name_when_it_is_right(tmp_path: Path) -> None:
    target = disk.place(tmp_path, entry())
    new = disk.NewFile(tmp_path / "parts" / "x", entry())
    new.write(DATA[:4])
    assert not target.exists()
    new.write(DATA[4:])
    new.finish(target)
    new.abandon()
    assert target.read_bytes() == DATA
    assert disk.is_whole(target, entry())
    assert list((tmp_path / "parts").iterdir()) == []


def test_an_abandoned_file_leaves_nothing(tmp_path: Path) -> None:
    new = disk.NewFile(tmp_path / "parts" / "x", entry())
    new.write(DATA)
    new.abandon()
    assert list((tmp_path / "parts").iterdir()) == []
    short = disk.NewFile(tmp_path / "parts" / "x", entry())
    with pytest.raises(Invalid, match="ended after 0 of 10 bytes"):
        short.finish(tmp_path / "y")
    short.abandon()


def test_only_plain_files_with_the_right_bytes_are_whole(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(DATA)
    (tmp_path / "bad").write_bytes(DATA[::-1])
    (tmp_path / "link").symlink_to(tmp_path / "good")
    (tmp_path / "folder").mkdir()
    whole = {p.name for p in tmp_path.iterdir() if disk.is_whole(p, entry())}
    assert whole == {"good"}
    assert not disk.is_whole(tmp_path / "missing", entry())


def test_a_linked_file_is_shared_and_replaces_what_was_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA)
    target.symlink_to("/etc/passwd")
    assert disk.reuse(source, target, entry())
    assert target.stat().st_ino == source.stat().st_ino
    assert not disk.reuse(tmp_path / "missing", target, entry())


def test_without_links_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "source").write_bytes(DATA)
    assert disk.reuse(tmp_path / "source", tmp_path / "target", entry())
    assert (tmp_path / "target").read_bytes() == DATA


def test_known_files_come_from_manifests_that_can_be_read(tmp_path: Path) -> None:
    manifest = Manifest(model="m", files=(entry(),))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1-abc.manifest").write_bytes(manifest_bytes(manifest))
    (tmp_path / "m" / "2-bad.manifest").write_bytes(b"{")
    assert disk.known_files(tmp_path) == {entry().blake3: [tmp_path / "m" / "1-abc" / "a/b.bin"]}


def test_publishing_and_discarding_a_package(tmp_path: Path) -> None:
    files, final = tmp_path / "staging" / "files", tmp_path / "packages" / "m" / "1-abc"
    files.mkdir(parents=True)
    (files / "x").write_bytes(DATA)
    manifest = manifest_bytes(Manifest(model="m", files=(entry("x"),)))
    disk.publish(files, final, manifest)
    assert (final / "x").read_bytes() == DATA
    assert not files.parent.exists()
    digest = blake3(manifest).hexdigest()
    (final / "__pycache__").mkdir()
    (final / "__pycache__" / "x.pyc").write_bytes(b"made by an engine")
    disk.check(final, digest)
    disk.manifest_path(final).write_bytes(manifest + b" ")
    with pytest.raises(Invalid, match="damaged"):
        disk.check(final, digest)
    disk.manifest_path(final).unlink()
    with pytest.raises(Invalid, match="cannot be read"):
        disk.check(final, digest)
    disk.discard(final)
    disk.discard(final)
    assert list(final.parent.iterdir()) == []
