"""The contract of BlobStore, run over every implementation."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from blake3 import blake3

from federation.artifacts.base import BlobStore
from federation.artifacts.local import LocalBlobStore
from federation.contract.errors import Invalid, NotFound, TooLarge

DATA = bytes(range(256)) * 8192 + b"end"  # two blocks and a bit
DIGEST = blake3(DATA).hexdigest()
LIMIT = len(DATA)


@pytest.fixture(params=[LocalBlobStore])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    store: BlobStore = request.param(tmp_path / "blobs")
    return store


async def stream(data: bytes, *, size: int = 70_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(blobs: BlobStore, digest: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([block async for block in blobs.read(digest, start, length)])


async def test_what_was_put_is_read_back(blobs: BlobStore) -> None:
    assert await blobs.put(DIGEST, stream(DATA), max_bytes=LIMIT) == len(DATA)
    assert await blobs.size(DIGEST) == len(DATA)
    assert await read(blobs, DIGEST) == DATA


async def test_an_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    digest = blake3(b"").hexdigest()
    assert await blobs.put(digest, stream(b""), max_bytes=0) == 0
    assert await read(blobs, digest) == b""


@pytest.mark.parametrize(
    ("start", "length"), [(0, 10), (5, None), (1 << 20, 7), (LIMIT, None), (LIMIT - 1, 100), (3, 0)]
)
async def test_ranges(blobs: BlobStore, start: int, length: int | None) -> None:
    await blobs.put(DIGEST, stream(DATA), max_bytes=LIMIT)
    end = None if length is None else start + length
    assert await read(blobs, DIGEST, start, length) == DATA[start:end]


async def test_missing_names_each_absent_digest_once(blobs: BlobStore) -> None:
    await blobs.put(DIGEST, stream(DATA), max_bytes=LIMIT)
    absent = ["f" * 64, "a" * 64]
    assert await blobs.missing([absent[0], DIGEST, absent[1], absent[0]]) == absent


async def test_putting_twice_changes_nothing(blobs: BlobStore) -> None:
    for _ in range(2):
        await blobs.put(DIGEST, stream(DATA), max_bytes=LIMIT)
    assert await read(blobs, DIGEST) == DATA


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b"", b"X" + DATA[1:]])
async def test_other_bytes_than_promised_are_refused(blobs: BlobStore, data: bytes) -> None:
    with pytest.raises(Invalid, match="not " + DIGEST):
        await blobs.put(DIGEST, stream(data), max_bytes=2 * LIMIT)
    assert await blobs.missing([DIGEST]) == [DIGEST]


async def test_more_bytes_than_allowed_are_refused(blobs: BlobStore) -> None:
    with pytest.raises(TooLarge, match=str(LIMIT - 1)):
        await blobs.put(DIGEST, stream(DATA), max_bytes=LIMIT - 1)
    assert await blobs.missing([DIGEST]) == [DIGEST]


async def test_a_cut_stream_leaves_nothing_and_tells_its_own_error(blobs: BlobStore) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        raise ConnectionResetError("cut")

    with pytest.raises(ConnectionResetError):
        await blobs.put(DIGEST, cut(), max_bytes=LIMIT)
    assert await blobs.missing([DIGEST]) == [DIGEST]


async def test_an_unknown_blob_is_not_found(blobs: BlobStore) -> None:
    with pytest.raises(NotFound):
        await blobs.size("0" * 64)
    with pytest.raises(NotFound):
        await read(blobs, "0" * 64)


@pytest.mark.parametrize(
    "digest", ["", "../" + "a" * 61, "A" * 64, "a" * 63, "a" * 65, "a" * 63 + "\n", "a" * 62 + "/x"]
)
async def test_what_is_no_digest_is_refused_everywhere(blobs: BlobStore, digest: str) -> None:
    with pytest.raises(Invalid):
        await blobs.missing([digest])
    with pytest.raises(Invalid):
        await blobs.size(digest)
    with pytest.raises(Invalid):
        await read(blobs, digest)
    with pytest.raises(Invalid):
        await blobs.put(digest, stream(b"x"), max_bytes=10)
