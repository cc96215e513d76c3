"""Folders that are never left through a link."""

import fcntl
import os
from pathlib import Path

import pytest

from edge_agent.sync.layout import Folder, Layout, PackageName, is_package_folder
from federation.contract.errors import Conflict, Invalid

NAME = PackageName("m", 3, "ab" * 32)


def test_a_package_has_a_name() -> None:
    assert (str(NAME), NAME.folder) == ("m@3", "3-abababababababab")
    assert is_package_folder(NAME.folder)
    assert not is_package_folder("3-abc")
    for model, version, digest in (("..", 1, "0" * 64), ("m", 1, "0" * 63), ("m", -1, "0" * 64)):
        with pytest.raises(Invalid):
            PackageName(model, version, digest)


def test_names_are_looked_up_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "to-file").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with Folder.at(tmp_path) as folder:
        for path in ("link/file", "real/to-file"):
            with pytest.raises((OSError, Invalid)):
                folder.open_file(path)
        with pytest.raises(Invalid, match="not a plain file"):
            folder.open_file("pipe")
        with pytest.raises(Invalid, match="not a plain folder"):
            folder.folder("link")
        with pytest.raises(FileNotFoundError):
            folder.folder("none")
        assert folder.read("real/file", 4) == b"data"
        with pytest.raises(Invalid, match="longer than 3"):
            folder.read("real/file", 3)
        assert folder.folders() == ["real"]
        paths = [path for path, _ in folder.walk()]
        assert sorted(paths) == ["link", "pipe", "real", "real/file", "real/to-file"]
        assert paths.index("real/file") < paths.index("real")
        folder.remove("link")
        folder.remove("none")
        folder.remove("real")
        assert folder.names() == ["pipe"]
    folder.close()


def test_small_files_are_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / ".x.tmp").symlink_to("/etc/passwd")  # planted, or left by a crash
    with Folder.at(tmp_path / "new") as folder:
        folder.write("x", b"1")
        folder.write("x", b"22")
        assert folder.names() == ["x"]
        assert folder.read("x", 9) == b"22"


def test_one_holds_a_lock(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    held = layout.lock(NAME)
    with pytest.raises(Conflict, match="m@3 is being fetched"):
        layout.lock(NAME)
    os.close(held)
    held = layout.lock(NAME)
    layout.unlock(NAME, held)
    assert not list((tmp_path / "staging" / "m").iterdir())


def test_a_lock_whose_file_is_gone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, real, turns = Layout(tmp_path), fcntl.flock, [0]
    path = tmp_path / "staging" / "m" / f"{NAME.folder}.lock"

    def flock(fd: int, how: int) -> None:
        turns[0] += 1
        if turns[0] == 1:
            path.unlink()  # by who held it until now
        real(fd, how)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        held = layout.lock(NAME)
    with pytest.raises(Conflict):
        layout.lock(NAME)
    os.close(held)


def test_what_is_discarded_is_gone_and_may_be_discarded_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with layout.make_model("packages", "m") as home:
        for _ in range(2):
            home.folder("x", make=True).close()
            (tmp_path / "trash" / "m-x-0").mkdir(parents=True, exist_ok=True)
            layout.discard(home, "x")
            assert home.names() == []
        layout.discard(home, "x")
    assert [p.name for p in (tmp_path / "trash").iterdir()] == ["m-x-0"]
    with pytest.raises(FileNotFoundError), layout.model("packages", "other"):
        pass
