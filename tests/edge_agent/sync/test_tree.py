"""What lies in a folder against what should."""

import os
from pathlib import Path

import pytest

from edge_agent.sync.layout import Folder
from edge_agent.sync.tree import clean, compare, folders_of, make_durable, stray
from federation.contract.errors import Invalid
from tests.edge_agent.sync.packages import Package

PACKAGE = Package({"a/b/c": b"1", "d": b"22", "__pycache__/e": b"3"})
ENTRIES = PACKAGE.manifest.files


def plain(path: Path) -> Path:
    for name, data in PACKAGE.files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def test_folders_are_those_on_the_way_to_a_file() -> None:
    assert folders_of(ENTRIES) == {"a", "a/b", "__pycache__"}


def test_cleaning_leaves_what_belongs(tmp_path: Path) -> None:
    plain(tmp_path)
    (tmp_path / "a" / "x").symlink_to("/etc")
    (tmp_path / "a" / "y").mkdir()
    (tmp_path / "a" / "y" / "c").write_bytes(b"1")
    (tmp_path / "d").unlink()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "d").write_bytes(b"")
    with Folder.at(tmp_path) as folder:
        clean(folder, ENTRIES)
        assert stray(folder, ENTRIES) == "'d' is missing."
        (tmp_path / "d").write_bytes(b"22")
        assert stray(folder, ENTRIES) == ""
        make_durable(folder)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("size", "'d' has 3 bytes, not 2."),
        ("link", "'d' is not a plain file."),
        ("added", "'a/x' does not belong to it."),
        ("folder", "'d' is not a plain file."),
        ("bytes", "'d' has other bytes."),
        ("engine", ""),
    ],
)
def test_a_difference_is_told(tmp_path: Path, damage: str, words: str) -> None:
    plain(tmp_path)
    match damage:
        case "size":
            (tmp_path / "d").write_bytes(b"333")
        case "link":
            (tmp_path / "d").rename(tmp_path.with_name(f"{tmp_path.name}-other"))
            (tmp_path / "d").symlink_to(tmp_path.with_name(f"{tmp_path.name}-other"))
        case "added":
            os.mkfifo(tmp_path / "a" / "x")
        case "folder":
            (tmp_path / "d").unlink()
            (tmp_path / "d").mkdir()
        case "bytes":
            (tmp_path / "d").write_bytes(b"23")
        case _:
            (tmp_path / "a" / "__pycache__").mkdir()
            (tmp_path / "a" / "__pycache__" / "x.pyc").write_bytes(b"x")
    seen: list[int] = []
    with Folder.at(tmp_path) as folder:
        if words:
            with pytest.raises(Invalid) as caught:
                compare(folder, ENTRIES, lambda fd, offset, length: seen.append(length))
            assert caught.value.message == words
        else:
            compare(folder, ENTRIES, lambda fd, offset, length: seen.append(length))
            assert sum(seen) == 4
