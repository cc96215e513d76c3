"""Directories of hard links, made of names that nobody vouches for."""

from pathlib import Path

import pytest

from federation.contract.errors import Invalid
from federation.sources.view import check_names, linked


def test_files_are_linked_not_copied_and_the_view_goes(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"x" * 100)
    (tmp_path / "link").symlink_to(blob)
    with linked({"a/b.bin": tmp_path / "link", "c": blob}, tmp_path, "s") as root:
        assert (root / "a/b.bin").stat().st_ino == blob.stat().st_ino
        assert not (root / "a/b.bin").is_symlink()
        assert (root / "c").read_bytes() == b"x" * 100
    assert not root.exists()
    assert blob.stat().st_nlink == 1


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "", "a\\b", "a//b", "./a", "a\x00b", "a\nb", "x" * 600],
)
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_names(["fine", name], "hub")
    assert caught.value.reason == "unsafe-path"
    with pytest.raises(Invalid), linked({name: tmp_path}, tmp_path, "hub"):
        pass
    assert not (tmp_path.parent / "x").exists()


def test_twins_and_too_many_are_refused() -> None:
    with pytest.raises(Invalid, match="same name"):
        check_names(["a", "a"], "hub")
    with pytest.raises(Invalid, match="at most"):
        check_names([f"f{n}" for n in range(10_001)], "hub")


def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.touch()
    with (
        pytest.raises(Invalid, match="as a folder"),
        linked({"a": blob, "a/b": blob}, tmp_path, "h"),
    ):
        pass
    with (
        pytest.raises(Invalid, match="as a folder"),
        linked({"a/b": blob, "a": blob}, tmp_path, "h"),
    ):
        pass
    assert list((tmp_path / "views").iterdir()) == []
