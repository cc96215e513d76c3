"""Files that become durable, and those that the disk could not write."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.sync import durable
from edge_agent.sync.durable import StagedFiles, hash_range, is_hole, read_all, write_all
from edge_agent.sync.faults import DISK_FAILING, Faults
from edge_agent.sync.layout import Folder
from federation.contract.errors import Exhausted, Unavailable
from tests.edge_agent.sync.packages import Package

PACKAGE = Package({"a/b": b"1" * 10_000, "c": b"2" * 5, "empty": b""})


class Rig:
    """Staged files of a package, and what was forgotten of them."""

    def __init__(self, path: Path) -> None:
        self.path, self.forgotten, self.faults = path, list[int](), Faults()
        self.files = StagedFiles(
            Folder.at(path), PACKAGE.manifest.files, self.faults, self.forgotten.append
        )

    def write(self, number: int, data: bytes) -> None:
        with self.files.writing(number) as file:
            write_all(file.fd, data, 0)
            file.unsynced_bytes += len(data)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def failing(times: int, number: int, real: Callable[..., object]) -> Callable[..., object]:
    left = [times]

    def call(*args: object) -> object:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(*args)

    return call


def test_a_write_may_be_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:3], at))
    with (tmp_path / "x").open("w+b") as file:
        write_all(file.fileno(), memoryview(b"0123456789"), 5)
        monkeypatch.undo()
        assert read_all(file.fileno(), 5, 10) == b"0123456789"
        with pytest.raises(OSError, match="shorter"):
            read_all(file.fileno(), 5, 11)
        assert hash_range(file.fileno(), 5, 11) == b""


def test_a_file_has_its_size_then_its_space(rig: Rig) -> None:
    rig.files.make(0)
    about = (rig.path / "a/b").stat()
    assert (about.st_size, about.st_blocks) == (10_000, 0)
    rig.files.reserve(0, [(0, 4096), (8192, 1808)])
    about = (rig.path / "a/b").stat()
    assert (about.st_size, about.st_blocks * 512) == (10_000, 8192)
    fd = os.open(rig.path / "a/b", os.O_RDONLY)
    assert is_hole(fd, 0, 10_000)
    rig.write(0, b"x")
    assert not is_hole(fd, 0, 10_000)
    os.close(fd)
    assert rig.files.is_ready(0)
    assert not rig.files.is_ready(1)


def test_a_full_disk_shows_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_fallocate", failing(1, errno.ENOSPC, durable._fallocate))
    with pytest.raises(Exhausted, match="No space left") as caught:
        rig.files.reserve(0, [(0, 10_000)])
    assert caught.value.reason == "disk-full"
    rig.files.reserve(0, [(0, 10_000)])
    assert (rig.path / "a/b").stat().st_blocks * 512 >= 10_000
    assert rig.faults.count == 0


def test_a_file_of_another_size_is_emptied(rig: Rig) -> None:
    (rig.path / "c").write_bytes(b"x" * 9)
    rig.files.make(1)
    assert (rig.path / "c").read_bytes() == bytes(5)


def test_a_sealed_file_of_our_own_is_opened_again_and_a_published_one_is_not(rig: Rig) -> None:
    (rig.path / "c").write_bytes(b"12345")
    (rig.path / "c").chmod(0o444)
    rig.write(1, b"abcde")
    assert (rig.path / "c").read_bytes() == b"abcde"
    other = Rig(rig.path.with_name(f"{rig.path.name}-other"))
    (rig.path / "published").write_bytes(b"12345")
    os.link(rig.path / "published", other.path / "c")
    other.write(1, b"abcde")
    assert (rig.path / "published").read_bytes() == b"12345"


def test_it_is_flushed_as_it_grows(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(durable, "SYNC_BYTES", 10)
    monkeypatch.setattr(durable, "_fdatasync", flushed.append)
    for _ in range(4):
        rig.write(1, b"12345")
    assert len(flushed) == 2


@pytest.mark.parametrize("call", ["_fdatasync", "fsync"])
def test_a_file_that_could_not_be_written_is_poisoned(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    rig.write(0, b"good")
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", failing(2, errno.EIO, os.fsync))
    else:
        monkeypatch.setattr(durable, "SYNC_BYTES", 1)
        monkeypatch.setattr(durable, "_fdatasync", failing(2, errno.EIO, os.fdatasync))
    reasons = []
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            rig.write(1, b"12345")
            rig.files.seal(1)
        reasons.append(caught.value.reason)
        assert not (rig.path / "c").exists()
        assert not rig.files.is_ready(1)
    assert reasons == ["disk-error", DISK_FAILING]
    assert rig.forgotten[0] == 1
    assert set(rig.forgotten) == {1}
    rig.write(1, b"12345")
    rig.files.seal(1)
    assert (rig.path / "c").stat().st_mode & 0o777 == 0o444


def test_what_is_written_to_a_poisoned_file_does_not_count(rig: Rig) -> None:
    with rig.files.writing(1) as late:
        with pytest.raises(Unavailable), rig.files.writing(1):
            raise OSError(errno.EIO, "x")
        assert late.dead
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(late.fd)
    with rig.files.writing(1) as file:
        assert not file.dead


def test_few_files_are_open_and_each_is_flushed_before_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Package({f"f{n:03}": b"x" for n in range(200)})
    faults, forgotten = Faults(), list[int]()
    files = StagedFiles(Folder.at(tmp_path), package.manifest.files, faults, forgotten.append)
    before = len(os.listdir("/proc/self/fd"))
    flushed: list[int] = []
    monkeypatch.setattr(durable, "_fdatasync", flushed.append)
    for number in range(200):
        with files.writing(number) as file:
            write_all(file.fd, b"x", 0)
            file.unsynced_bytes += 1
    assert len(os.listdir("/proc/self/fd")) - before <= 64
    assert len(flushed) == 136
    monkeypatch.setattr(durable, "_fdatasync", failing(1, errno.EIO, os.fdatasync))
    with pytest.raises(Unavailable), files.writing(0) as file:
        file.unsynced_bytes += 1
    assert forgotten
    files.close()
    assert len(os.listdir("/proc/self/fd")) <= before
