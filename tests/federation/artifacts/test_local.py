import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from blake3 import blake3

from federation.artifacts.local import LocalBlobStore
from federation.contract.errors import Exhausted

DATA = b"some bytes"
DIGEST = blake3(DATA).hexdigest()


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_blob_lies_where_its_digest_says(tmp_path: Path) -> None:
    blobs = LocalBlobStore(tmp_path)
    await blobs.put(DIGEST, once(DATA), max_bytes=100)
    assert (tmp_path / DIGEST[:2] / DIGEST).read_bytes() == DATA
    assert list((tmp_path / "incoming").iterdir()) == []


async def test_a_start_sweeps_what_a_crash_left_and_keeps_the_rest(tmp_path: Path) -> None:
    await LocalBlobStore(tmp_path).put(DIGEST, once(DATA), max_bytes=100)
    (tmp_path / "incoming" / f"{DIGEST}.half").write_bytes(DATA[:3])
    blobs = LocalBlobStore(tmp_path)
    assert list((tmp_path / "incoming").iterdir()) == []
    assert await blobs.missing([DIGEST]) == []


async def test_a_cancelled_put_leaves_no_file(tmp_path: Path) -> None:
    blobs = LocalBlobStore(tmp_path)
    started = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield DATA
        started.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        task = asyncio.create_task(blobs.put(DIGEST, stalled(), max_bytes=100))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


async def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    blobs = LocalBlobStore(tmp_path)

    async def full() -> AsyncIterator[bytes]:
        yield DATA
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Exhausted, match="full"):
        await blobs.put(DIGEST, full(), max_bytes=100)
