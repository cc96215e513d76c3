"""The contract of ObjectStore, run over a directory, a fake S3 server and a real one."""

import asyncio
import errno
import io
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from federation.artifacts.base import ObjectStore
from federation.artifacts.objects_bucket import BucketWriter
from federation.artifacts.stores import open_objects
from federation.contract.errors import Invalid, NotFound, Unavailable
from tests.federation.artifacts.servers import S3Server

DATA = bytes(range(256)) * 8192 + b"end"  # two blocks and a bit
LARGE = os.urandom(1 << 20) * 20  # three parts of a multipart upload
SIZE = len(DATA)


@pytest.fixture(params=["directory", "bucket"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store is."""
    if request.param == "directory":
        return str(tmp_path / "store")
    request.getfixturevalue("s3_credentials")
    server: S3Server = request.getfixturevalue("s3_server")
    return server.address()


@pytest.fixture
def store(address: str) -> ObjectStore:
    return open_objects(address)


async def read(store: ObjectStore, key: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([block async for block in store.read(key, start, length)])


async def keys(store: ObjectStore, prefix: str) -> list[str]:
    return sorted([info.key async for info in store.list(prefix)])


async def test_what_was_put_is_read_back(store: ObjectStore) -> None:
    assert await store.put("packs/ab", DATA) is True
    assert await store.size("packs/ab") == SIZE
    assert await read(store, "packs/ab") == DATA


async def test_an_object_may_be_empty(store: ObjectStore) -> None:
    assert await store.put("packs/empty", b"") is True
    assert await read(store, "packs/empty") == b""
    assert await store.size("packs/empty") == 0


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 10), (5, None), (1 << 20, 7), (SIZE - 1, 100), (3, 0), (0, SIZE), (0, 10 * SIZE)],
)
async def test_ranges(store: ObjectStore, start: int, length: int | None) -> None:
    await store.put("packs/ab", DATA)
    end = None if length is None else start + length
    assert await read(store, "packs/ab", start, length) == DATA[start:end]


@pytest.mark.parametrize(
    ("start", "length"), [(SIZE, None), (SIZE, 5), (SIZE + 7, 1), (1 << 40, 9)]
)
async def test_a_range_past_the_end_is_empty(
    store: ObjectStore, start: int, length: int | None
) -> None:
    await store.put("packs/ab", DATA)
    assert await read(store, "packs/ab", start, length) == b""


async def test_a_taken_key_stays_as_it_is(store: ObjectStore) -> None:
    assert await store.put("packs/ab", b"first") is True
    assert await store.put("packs/ab", b"second") is False
    assert await read(store, "packs/ab") == b"first"


async def test_of_many_that_put_at_once_exactly_one_wins(store: ObjectStore) -> None:
    contents = [f"writer {n}".encode() for n in range(12)]
    won = await asyncio.gather(*(store.put("documents/race", data) for data in contents))
    assert sum(won) == 1
    assert await read(store, "documents/race") == contents[won.index(True)]


async def test_replace_takes_the_place_of_what_was_there(store: ObjectStore) -> None:
    await store.replace("touches", b"one")
    await store.replace("touches", b"three")
    assert await read(store, "touches") == b"three"


async def test_an_absent_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match="packs/ab"):
        await store.size("packs/ab")
    for start, length in [(0, None), (0, 5), (7, None), (0, 0)]:
        with pytest.raises(NotFound, match="packs/ab"):
            await read(store, "packs/ab", start, length)


async def test_a_deleted_object_is_absent_and_may_come_again(store: ObjectStore) -> None:
    await store.put("packs/ab", DATA)
    for _ in range(2):
        await store.delete("packs/ab")
        with pytest.raises(NotFound):
            await store.size("packs/ab")
    assert await store.put("packs/ab", b"new") is True
    assert await read(store, "packs/ab") == b"new"


async def test_a_listing_has_sizes_and_times_below_the_prefix_only(store: ObjectStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    for key in (
        "packs/ab",
        "packs/ab.index",
        "packs/ac",
        "manifests/ab",
        "packsother/x",
        "touches",
    ):
        await store.put(key, b"x" * len(key))
    assert await keys(store, "packs/") == ["packs/ab", "packs/ab.index", "packs/ac"]
    assert await keys(store, "packs/ab") == ["packs/ab", "packs/ab.index"]
    assert await keys(store, "packs/zz") == []
    assert len(await keys(store, "")) == 6
    async for info in store.list("packs/"):
        assert info.size == len(info.key)
        assert before <= info.modified_at <= datetime.now(UTC) + timedelta(seconds=5)


async def test_a_listing_is_complete_beyond_one_page(store: ObjectStore) -> None:
    names = [f"packs/{n:04}" for n in range(1005)]
    limit = asyncio.Semaphore(20)

    async def put(name: str) -> None:
        async with limit:
            await store.put(name, b"")

    await asyncio.gather(*(put(name) for name in names))
    assert await keys(store, "packs/") == names


@pytest.mark.parametrize("data", [b"", DATA, LARGE], ids=["empty", "small", "in parts"])
async def test_what_a_writer_commits_is_an_object(store: ObjectStore, data: bytes) -> None:
    writer = store.writer()
    for start in range(0, len(data), 700_000):
        await writer.write(data[start : start + 700_000])
        assert await keys(store, "") == []
    await writer.commit("packs/ab")
    assert await keys(store, "") == ["packs/ab"]
    assert await read(store, "packs/ab") == data
    middle = len(data) // 2
    assert await read(store, "packs/ab", middle, 999) == data[middle : middle + 999]


@pytest.mark.parametrize("data", [b"other", LARGE], ids=["small", "in parts"])
async def test_a_writer_does_not_replace_what_is_there(store: ObjectStore, data: bytes) -> None:
    await store.put("packs/ab", b"first")
    writer = store.writer()
    await writer.write(data)
    await writer.commit("packs/ab")
    assert await read(store, "packs/ab") == b"first"


async def test_an_aborted_writer_leaves_nothing(
    store: ObjectStore, address: str, request: pytest.FixtureRequest
) -> None:
    writer = store.writer()
    await writer.write(LARGE)
    await writer.abort()
    await writer.abort()
    await store.writer().abort()  # one that never wrote
    assert await keys(store, "") == []
    if address.startswith("/"):
        assert list(Path(address, "incoming").iterdir()) == []
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        before = server.uploads_in_progress()
        again = store.writer()
        await again.write(LARGE)
        await again.abort()
        assert server.uploads_in_progress() == before


class Broken(io.BytesIO):
    """A file that cannot be read to its end."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > len(LARGE) // 2:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


@pytest.mark.parametrize("address", ["bucket"], indirect=True)
async def test_a_commit_that_fails_half_way_leaves_nothing(
    store: ObjectStore, s3_server: S3Server
) -> None:
    writer = store.writer()
    assert isinstance(writer, BucketWriter)
    await writer.write(LARGE)
    assert writer._file is not None
    writer._file.close()
    writer._file = Broken(LARGE)
    with pytest.raises(Unavailable, match="Input/output error"):
        await writer.commit("packs/ab")
    assert await keys(store, "") == []
    # SeaweedFS may write a part that was on its way when the upload was aborted, as S3 may: that is
    # what the buckets' rule for unfinished uploads is for.
    assert s3_server.uploads_in_progress() <= 1


async def test_two_writers_with_one_key_end_with_one_object(store: ObjectStore) -> None:
    writers = [store.writer() for _ in range(3)]
    for writer in writers:
        await writer.write(LARGE)
    await asyncio.gather(*(writer.commit("packs/ab") for writer in writers))
    assert await read(store, "packs/ab") == LARGE


@pytest.mark.parametrize(
    "key",
    ["", "/packs/ab", "../ab", "packs/../ab", "packs//ab", "packs/.ab", "packs/A", "packs/a\n",
     "incoming/x", "packs/a b", "p" * 400, "packs/ä", "packs/a?x=1"],
)  # fmt: skip
async def test_what_is_no_key_is_refused_everywhere(store: ObjectStore, key: str) -> None:
    writer = store.writer()
    await writer.write(b"x")
    for attempt in (
        store.put(key, b""),
        store.replace(key, b""),
        store.size(key),
        read(store, key),
        store.delete(key),
        store.signed_url(key, timedelta(hours=1)),
        writer.commit(key),
    ):
        with pytest.raises(Invalid):
            await attempt
    await writer.abort()


async def test_a_reader_may_stop_early(store: ObjectStore) -> None:
    await store.put("packs/ab", LARGE[: 4 << 20])
    blocks: AsyncIterator[bytes] = store.read("packs/ab")
    assert LARGE.startswith(await anext(blocks))
    await blocks.aclose()  # type: ignore[attr-defined]


async def test_another_process_finds_it(store: ObjectStore, address: str) -> None:
    await store.put("packs/ab", DATA)
    assert await read(open_objects(address), "packs/ab") == DATA


async def test_a_signed_url_serves_ranges_to_anybody(store: ObjectStore, address: str) -> None:
    await store.put("packs/ab", DATA)
    url = await store.signed_url("packs/ab", timedelta(minutes=5))
    if address.startswith("/"):
        assert url is None
        return
    assert url is not None
    status, body = await asyncio.to_thread(_fetch, url, {"Range": "bytes=100-299"})
    assert (status, body) == (206, DATA[100:300])
    status, _ = await asyncio.to_thread(_fetch, url.partition("?")[0], {})
    assert status == 403
    with pytest.raises(Invalid, match="7 days"):
        await store.signed_url("packs/ab", timedelta(days=8))
    assert await open_objects(f"{address}&signed=no").signed_url("packs/ab", timedelta(1)) is None


def _fetch(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
