"""The three sources of a staging folder: what lies there, this disk, and what is put."""

import errno
import os
import random
import time
from pathlib import Path

import pytest

from edge_agent.sync import durable, filling
from edge_agent.sync.shelf import Shelf
from federation.contract.errors import Conflict, Unavailable
from tests.edge_agent.sync.packages import CHUNK, Package, needed

DATA = random.Random(2).randbytes(8 * CHUNK)
OLD = Package({"d/x": DATA, "y": b"old"}, version=1)
NEW = {"d/x": DATA[: 5 * CHUNK] + b"!" * CHUNK + DATA[6 * CHUNK :], "moved": DATA, "y": b"new"}


def test_only_what_changed_is_needed(tmp_path: Path) -> None:
    OLD.fetch(shelf := Shelf(tmp_path))
    new = Package(NEW, version=2)
    staging = new.open(shelf)
    staging.resume()
    staging.reuse()
    assert staging.reused_bytes == staging.present_bytes == 15 * CHUNK
    wanted = needed(staging)
    assert [new.chunks[staging.chunk(n).digest] for n in wanted] == [b"!" * CHUNK, b"new"]
    new.feed(staging, wanted)
    path = staging.publish()
    assert new.is_at(path)
    assert (path / "moved").stat().st_ino == (OLD.folder(tmp_path) / "d/x").stat().st_ino
    assert OLD.is_at(OLD.folder(tmp_path))


@pytest.mark.parametrize("number", [errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_without_links_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "no links here")

    OLD.fetch(shelf := Shelf(tmp_path))
    monkeypatch.setattr(os, "link", refuse)
    new = Package(NEW, version=2)
    path = new.fetch(shelf)
    assert new.is_at(path)
    assert len(new.asked) == 2
    assert (path / "moved").stat().st_nlink == 1


def test_bytes_that_are_there_twice_are_fetched_once(tmp_path: Path) -> None:
    shelf, package = Shelf(tmp_path), Package({"a": DATA, "b": b"x" + DATA, "c": DATA})
    assert package.is_at(package.fetch(shelf))
    assert len(package.asked) == 8 + 9
    staging = Package({"a": DATA, "c": DATA[:CHUNK]}, version=2).open(Shelf(tmp_path / "other"))
    staging.reuse()
    assert len(needed(staging)) == 8
    staging.close()


def test_a_place_that_was_lost_is_filled_from_its_twin(tmp_path: Path) -> None:
    package = Package({"a": DATA, "c": DATA})
    staging = package.open(shelf := Shelf(tmp_path))
    staging.reuse()
    package.feed(staging, needed(staging))
    staging.close()
    (package.staging_folder(tmp_path) / "c").unlink()
    staging = package.open(shelf)
    staging.resume()
    assert staging.present_bytes == len(DATA)
    staging.reuse()
    assert (needed(staging), staging.reused_bytes) == ([], len(DATA))
    assert package.is_at(staging.publish())


def test_a_linked_file_that_rots_is_not_written_through(tmp_path: Path) -> None:
    """A link was made, the process died, then the published file rotted: both names show it."""
    old = OLD.fetch(shelf := Shelf(tmp_path))
    new = Package(NEW, version=2)
    staging = new.open(shelf)
    staging.resume()
    staging.link()
    staging.close()
    inode = (new.staging_folder(tmp_path) / "moved").stat().st_ino
    assert inode == (old / "d/x").stat().st_ino
    (old / "d/x").chmod(0o644)
    with (old / "d/x").open("r+b") as file:
        file.write(b"rot")
    assert new.is_at(new.fetch(shelf))
    assert (old / "d/x").read_bytes()[:3] == b"rot"
    assert new.asked[0] == 1


def test_a_source_that_cannot_be_read_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OLD.fetch(shelf := Shelf(tmp_path))
    bad, real = (OLD.folder(tmp_path) / "d/x").stat().st_ino, os.pread

    def pread(fd: int, count: int, at: int) -> bytes:
        if os.fstat(fd).st_ino == bad:
            raise OSError(errno.EIO, "x")
        return real(fd, count, at)

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    new = Package(NEW, version=2)
    assert new.is_at(new.fetch(shelf))
    assert len(new.asked) == 8 + 2


def test_a_poisoned_file_is_fetched_again_and_the_second_time_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, package, real, left = Shelf(tmp_path), Package(NEW), os.fsync, [2]

    def fsync(fd: int) -> None:
        if left[0] and os.readlink(f"/proc/self/fd/{fd}").endswith("/y"):
            left[0] -= 1
            raise OSError(errno.EIO, "x")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    staging = package.open(shelf)
    staging.reuse()
    reasons = []
    for _ in range(2):
        package.feed(staging, needed(staging))
        with pytest.raises(Unavailable) as caught:
            staging.publish()
        reasons.append(caught.value.reason)
        assert [package.chunks[staging.chunk(n).digest] for n in needed(staging)] == [b"new"]
        assert not (package.folder(tmp_path)).exists()
    assert reasons == ["disk-error", "DiskFailing"]
    package.feed(staging, needed(staging))
    assert package.is_at(staging.publish())


def test_a_chunk_that_went_to_a_poisoned_file_is_still_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, real = Package({"y": b"data"}), durable.write_all
    staging = package.open(Shelf(tmp_path))
    staging.reuse()

    def write_all(fd: int, data: bytes, offset: int) -> None:
        real(fd, data, offset)
        with pytest.raises(Unavailable), staging._files.writing(0):
            raise OSError(errno.EIO, "x")  # what another thread saw meanwhile

    with monkeypatch.context() as patch:
        patch.setattr(filling, "write_all", write_all)
        package.feed(staging, [0])
    assert (needed(staging), staging.present_bytes) == ([0], 0)
    package.feed(staging, [0])
    assert package.is_at(staging.publish())


def test_closing_ends_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package(NEW)
    staging = package.open(shelf := Shelf(tmp_path))
    staging.reuse()
    package.feed(staging, needed(staging)[:3])
    staging.close()
    staging = package.open(shelf)
    real = os.pread

    def pread(fd: int, count: int, at: int) -> bytes:
        staging.close()
        return real(fd, count, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", pread)
        with pytest.raises(Conflict, match="closed"):
            staging.resume()
    package.open(shelf).close()  # the lock is free again


def test_after_an_error_nothing_more_is_begun(tmp_path: Path) -> None:
    staging, seen = Package(NEW).open(Shelf(tmp_path)), list[int]()

    def do(number: int) -> None:
        seen.append(number)
        if number == 5:
            raise Unavailable("the disk failed")
        time.sleep(0.001)

    with pytest.raises(Unavailable, match="failed"):
        staging._filler._side_by_side(do, range(5000))
    assert len(seen) < 1000
    seen.clear()
    staging._filler._side_by_side(seen.append, range(50))
    assert sorted(seen) == list(range(50))
    staging.close()
