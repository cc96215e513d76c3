"""What only a directory has; the contract is in test_object_stores.py."""

import errno
import os
from pathlib import Path

import pytest

from federation.artifacts.objects_local import LocalObjects
from federation.contract.errors import Exhausted, Unavailable


async def test_leftovers_of_a_crash_go_at_start(tmp_path: Path) -> None:
    writer = LocalObjects(tmp_path).writer()
    await writer.write(b"half")
    assert len(list((tmp_path / "incoming").iterdir())) == 1
    LocalObjects(tmp_path)
    assert list((tmp_path / "incoming").iterdir()) == []
    await writer.abort()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
async def test_a_failing_disk_is_told_in_words_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = LocalObjects(tmp_path)

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    kind = Exhausted if number in (errno.ENOSPC, errno.EDQUOT) else Unavailable
    with pytest.raises(kind, match="disk"):
        await store.put("packs/ab", b"data")
    writer = store.writer()
    await writer.write(b"data")
    with pytest.raises(kind, match="disk"):
        await writer.commit("packs/ab")
    monkeypatch.undo()
    assert [info async for info in store.list("")] == []
    assert list((tmp_path / "incoming").iterdir()) == []


async def test_bytes_are_synced_before_they_are_visible_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalObjects(tmp_path)
    calls: list[str] = []
    fsync, link = os.fsync, os.link

    def told_fsync(descriptor: int) -> None:
        calls.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).parent.name}")
        fsync(descriptor)

    def told_link(source: Path, target: Path) -> None:
        calls.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(os, "link", told_link)
    await store.put("packs/ab", b"data")
    root, above = tmp_path.name, tmp_path.parent.name
    # the file; the root, which got the folder; then the link, and the folder that got it
    assert calls == ["fsync incoming", f"fsync {above}", "link", f"fsync {root}"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
async def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    store = LocalObjects(tmp_path)
    assert await store.put("packs/ab", b"first") is True
    assert await store.put("packs/ab", b"second") is False
    assert (tmp_path / "packs" / "ab").read_bytes() == b"first"
