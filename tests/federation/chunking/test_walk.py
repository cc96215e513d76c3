"""Which files a package has, and what none may have."""

import os
from pathlib import Path

import pytest

from federation.chunking import walk
from federation.chunking.walk import list_files, open_file, read_at
from federation.contract.errors import Conflict, Invalid, NotFound


def test_files_in_order_without_bytecode(tmp_path: Path) -> None:
    (tmp_path / "sub" / "__pycache__").mkdir(parents=True)
    (tmp_path / "sub" / "__pycache__" / "x.pyc").write_bytes(b"no")
    (tmp_path / "sub" / "b.bin").write_bytes(b"bytes")
    (tmp_path / "sub.txt").write_bytes(b"1")
    (tmp_path / ".hidden").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    assert list(list_files(tmp_path).items()) == [(".hidden", 0), ("sub.txt", 1), ("sub/b.bin", 5)]


@pytest.mark.parametrize("kind", ["file", "folder", "dangling", "fifo"])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "real").mkdir()
    if kind == "fifo":
        os.mkfifo(tmp_path / "odd")
    else:
        target = {"file": __file__, "folder": "real", "dangling": "nowhere"}[kind]
        (tmp_path / "odd").symlink_to(target)
    with pytest.raises(Invalid, match="'odd' is a link or a special file"):
        list_files(tmp_path)
    with pytest.raises(Invalid, match="'odd' is a link or a special file"):
        open_file(tmp_path, "odd")  # it may have been a file when it was listed


@pytest.mark.parametrize("name", [b"a\nb", b"\xff", b"a\\b", b"\x1b[31m"])
def test_names_that_not_every_system_holds(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"")
    with pytest.raises(Invalid, match="cannot be the name"):
        list_files(tmp_path)


def test_other_letters_are_fine(tmp_path: Path) -> None:
    (tmp_path / "模型 é.bin").write_bytes(b"1")
    assert list(list_files(tmp_path)) == ["模型 é.bin"]


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_FILES", 2)
    for name in "abc":
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(Invalid, match="at most 2 files"):
        list_files(tmp_path)


def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(NotFound, match="is not a directory"):
            list_files(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir(mode=0)
    with pytest.raises(Invalid, match="cannot be read"):
        list_files(tmp_path)


def test_a_file_that_is_gone_or_a_folder_by_now(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="changed"):
        open_file(tmp_path, "gone")
    (tmp_path / "folder").mkdir()
    with pytest.raises(Invalid):
        open_file(tmp_path, "folder")


def test_reading_at_an_offset(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    with open_file(tmp_path, "x") as file:
        assert read_at(file, 2, 3) == b"234"
        assert read_at(file, 8, 5) == b"89"
        assert read_at(file, 20, 5) == b""
