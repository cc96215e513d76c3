"""The contract of ArtifactStore, over a directory and a fake S3 server."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from federation.artifacts.base import ObjectStore
from federation.artifacts.objects_local import LocalObjects
from federation.artifacts.packs import PackStore
from federation.artifacts.stores import open_objects
from federation.chunking.encoding import encode
from federation.contract.errors import Exhausted, Invalid, NotFound
from federation.contract.locations import Frame, bases_of, places_of
from federation.runtime.clock import ManualClock
from tests.federation.artifacts.packing import content, digest, frame, keys, push, put_manifest
from tests.federation.artifacts.servers import S3Server

HOUR = timedelta(hours=1)
GRACE = timedelta(hours=24)
A, B, C, D = (content(n) for n in range(4))


@pytest.fixture(params=["directory", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "directory":
        return LocalObjects(tmp_path / "store")
    request.getfixturevalue("s3_credentials")
    server: S3Server = request.getfixturevalue("s3_server")
    return open_objects(server.address())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest.fixture
async def store(objects: ObjectStore, clock: ManualClock) -> PackStore:
    return await PackStore.open(objects, clock=clock)


async def missing(store: PackStore, *chunks: bytes) -> list[bool]:
    return await store.missing([digest(data) for data in chunks])


async def test_sealed_chunks_are_found_read_and_located(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    assert await missing(store, A, B) == [True, True]
    await push(store, [A, B])
    assert await missing(store, A, C, B) == [False, True, False]
    for opened in (store, await PackStore.open(objects, clock=clock)):
        assert [await opened.read_chunk(digest(data)) for data in (B, A)] == [B, A]
        found = await opened.locate([digest(B), digest(A)], url_lifetime=HOUR)
        (pack,) = found.packs
        own = "/api/v1/packs/" if isinstance(objects, LocalObjects) else "http://127.0.0.1:"
        assert pack.url.startswith(own)
        for data, place in zip((B, A), places_of(found), strict=True):
            blocks = opened.read_pack(pack.id, place.offset, place.stored)
            assert b"".join([block async for block in blocks]) == data
        assert await opened.pack_size(pack.id) == len(A + B)
        assert found.good_for_s == 3600


async def test_a_pack_is_named_by_its_bytes_and_has_its_index_beside_it(
    store: PackStore, objects: ObjectStore
) -> None:
    await push(store, [A, B])
    name = f"packs/{digest(A + B).hex()}"
    assert await keys(objects) == [name, f"{name}.index"]


async def test_nothing_is_found_before_it_is_sealed(store: PackStore) -> None:
    upload = store.upload()
    await upload.add(frame(A), A)
    assert await missing(store, A) == [True]
    with pytest.raises(NotFound):
        await store.read_chunk(digest(A))
    with pytest.raises(NotFound, match=digest(A).hex()):
        await store.locate([digest(A)], url_lifetime=HOUR)
    await upload.seal()
    assert await missing(store, A) == [False]


async def test_a_cut_upload_keeps_the_chunks_that_came_whole(store: PackStore) -> None:
    upload = store.upload()
    await upload.add(frame(A), A)
    with pytest.raises(Invalid):
        await upload.add(frame(B), B[:-1])
    await upload.seal()
    await upload.seal()  # once more changes nothing
    assert await missing(store, A, B) == [False, True]


@pytest.mark.parametrize(
    ("head", "stored"),
    [
        (frame(A), B),
        (frame(A), A[:-1] + bytes([A[-1] ^ 1])),
        (frame(A), A + b"x"),
        (frame(A), b""),
        (Frame(digest=digest(A), length=len(A), stored=len(A) + 1), A + b"x"),
        (Frame(digest=digest(A), length=len(A) + 1, stored=len(A)), A),
        (Frame(digest=digest(A)[:-1], length=len(A), stored=len(A)), A),
        (Frame(digest=digest(b""), length=0, stored=0), b""),
        (Frame(digest=digest(A), length=len(A), stored=len(A), code=77), A),
        (Frame(digest=digest(A), length=len(A), stored=len(A), code=1), A),
        (Frame(digest=digest(A), length=len(A), stored=len(A), code=0x82), A),
        (Frame(digest=digest(A), length=len(A), stored=len(A), base=digest(B)), A),
        (Frame(digest=digest(A), length=17 << 20, stored=len(A), code=1), A),
    ],
)  # fmt: skip
async def test_wrong_bytes_are_refused_and_spoil_nothing(
    store: PackStore, head: Frame, stored: bytes
) -> None:
    upload = store.upload()
    await upload.add(frame(C), C)
    with pytest.raises(Invalid):
        await upload.add(head, stored)
    await upload.add(frame(B), B)
    await upload.seal()
    assert await missing(store, A, B, C) == [True, False, False]
    assert await store.read_chunk(digest(B)) == B


async def test_an_encoded_chunk_is_stored_small_and_read_whole(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    plain, tuned = b"weights " * 4000, b"weights!" * 4000
    small = encode(plain, 1)
    delta = encode(tuned, 0x82, plain)
    upload = store.upload()
    await upload.add(
        Frame(digest=digest(plain), length=len(plain), stored=len(small), code=1), small
    )
    head = Frame(
        digest=digest(tuned), length=len(tuned), stored=len(delta), code=0x82, base=digest(plain)
    )
    await upload.add(head, delta)
    await upload.seal()
    for opened in (store, await PackStore.open(objects, clock=clock)):
        assert await opened.read_chunk(digest(plain)) == plain
        assert await opened.read_chunk(digest(tuned)) == tuned
        found = await opened.locate([digest(plain), digest(tuned)], url_lifetime=HOUR)
        assert found.bases == {1: digest(plain).hex()}
        assert [place.code for place in places_of(found)] == [1, 0x82]
        assert bases_of(found) == {digest(plain): next(iter(places_of(found)))}
        alone = await opened.locate([digest(tuned)], url_lifetime=HOUR)
        (place,) = bases_of(alone).values()  # who fetches this one only can have its base, too
        assert place.stored == len(small)


async def test_a_base_that_is_absent_is_not_found(store: PackStore) -> None:
    delta = encode(A, 0x84, B)
    head = Frame(digest=digest(A), length=len(A), stored=len(delta), code=0x84, base=digest(B))
    with pytest.raises(NotFound, match=digest(B).hex()):
        await store.upload().add(head, delta)


async def add_delta(store: PackStore, data: bytes, base: bytes) -> None:
    delta, upload = encode(data, 0x82, base), store.upload()
    head = Frame(
        digest=digest(data), length=len(data), stored=len(delta), code=0x82, base=digest(base)
    )
    await upload.add(head, delta)
    await upload.seal()


async def test_what_would_make_a_chain_of_differences_is_stored_whole(store: PackStore) -> None:
    chunks = [content(n, 512) for n in range(6)]
    await push(store, chunks[:1])
    for base, data in pairwise(chunks):
        await add_delta(store, data, base)
    found = await store.locate(map(digest, chunks), url_lifetime=HOUR)
    assert found.bases == {n: digest(chunks[n - 1]).hex() for n in (1, 3, 5)}
    assert [await store.read_chunk(digest(data)) for data in chunks] == chunks


async def test_without_its_base_a_chunk_is_missing_until_it_comes_again(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await push(store, [A])
    (key, _) = await keys(objects)
    await add_delta(store, B, A)
    manifest = await put_manifest(store, [A])
    await objects.replace(key, bytes(len(A)))
    assert len(await store.verify([manifest])) == 1
    for opened in (store, await PackStore.open(objects, clock=clock)):
        assert await missing(opened, A, B) == [True, True]
    await push(store, [C])
    await add_delta(store, B, C)
    await add_delta(store, A, B)  # it is no base any more, and this one has a base
    found = await store.locate([digest(A), digest(B)], url_lifetime=HOUR)
    assert found.bases == {1: digest(C).hex()}
    assert await store.read_chunk(digest(A)) == A


async def test_a_base_that_is_lost_before_its_pack_is_full(store: PackStore) -> None:
    await push(store, [A])
    delta, upload = encode(B, 0x82, A), store.upload()
    await upload.add(
        Frame(digest=digest(B), length=len(B), stored=len(delta), code=0x82, base=digest(A)), delta
    )
    store._catalog.forget(0, [digest(A)])  # a verification found it damaged just now
    await upload.seal()
    assert await missing(store, A, B) == [True, True]


async def test_uploads_side_by_side_store_a_chunk_once(
    store: PackStore, objects: ObjectStore
) -> None:
    chunks = [content(n, 20_000) for n in range(40)]
    await asyncio.gather(*(push(store, chunks[n:] + chunks[:n]) for n in range(0, 40, 8)))
    assert not any(await missing(store, *chunks))
    sizes = [i.size async for i in objects.list("packs/") if not i.key.endswith(".index")]
    assert sum(sizes) == 40 * 20_000
    assert [await store.read_chunk(digest(data)) for data in chunks] == chunks


async def test_a_chunk_that_another_upload_brought_is_durable_after_the_own_seal(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    slow, quick = store.upload(), store.upload()
    await slow.add(frame(A), A)
    await quick.add(frame(A), A)
    await quick.seal()  # and `slow` never is
    assert await missing(await PackStore.open(objects, clock=clock), A) == [False]


async def test_a_full_pack_is_sealed_while_the_upload_goes_on(
    store: PackStore, objects: ObjectStore
) -> None:
    upload = store.upload()
    chunks = [content(n, 16 << 20) for n in range(5)]
    for data in chunks:
        await upload.add(frame(data), data)
    assert await missing(store, *chunks) == [False] * 4 + [True]
    await upload.seal()
    sizes = [i.size async for i in objects.list("packs/") if not i.key.endswith(".index")]
    assert sorted(sizes) == [16 << 20, 64 << 20]


class Breaking(LocalObjects):
    """A disk that gets full at the wrong moment."""

    full = False

    async def replace(self, key: str, data: bytes) -> None:
        if self.full:
            raise Exhausted("the disk is full.")
        await super().replace(key, data)


async def test_a_disk_that_gets_full_fails_every_upload_that_it_hits_and_nothing_else(
    tmp_path: Path, clock: ManualClock
) -> None:
    objects = Breaking(tmp_path)
    store = await PackStore.open(objects, clock=clock)
    await push(store, [C])
    one, two = store.upload(), store.upload()
    await one.add(frame(A), A)
    await two.add(frame(B), B)
    objects.full = True
    for upload in (one, two, one):
        with pytest.raises(Exhausted):
            await upload.seal()
    assert await missing(store, A, B, C) == [True, True, False]
    objects.full = False
    await push(store, [A, B])
    assert await missing(await PackStore.open(objects, clock=clock), A, B, C) == [False] * 3


async def test_a_cancelled_request_leaves_no_half_chunk(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    chunks = [content(n, 3 << 20) for n in range(6)]
    upload = store.upload()
    for number, data in enumerate(chunks):
        task = asyncio.ensure_future(upload.add(frame(data), data))
        for _ in range(number):  # cut at another await each time
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await push(store, [A])
    await upload.seal()
    opened = await PackStore.open(objects, clock=clock)
    for data in (A, *chunks):
        if await missing(opened, data) == [False]:
            assert await opened.read_chunk(digest(data)) == data
    assert await opened.read_chunk(digest(A)) == A


async def test_documents_are_kept_checked_and_replaced(store: PackStore) -> None:
    name = await put_manifest(store, [A])
    assert digest(await store.document("manifest", name)).hex() == name
    with pytest.raises(Invalid):
        await store.put_document("manifest", name, b"{}")
    with pytest.raises(NotFound, match="release"):
        await store.document("release", name)
    await store.put_document("release", name, b"old")
    await store.put_document("release", name, b"new")
    assert await store.document("release", name) == b"new"
    with pytest.raises(Invalid):
        await store.document("manifest", "../../etc/passwd")
    with pytest.raises(Invalid):
        await store.put_document("recipe", name, b"")


async def test_what_is_asked_with_nonsense_is_refused(store: PackStore) -> None:
    with pytest.raises(Invalid):
        await store.missing([b"short"])
    with pytest.raises(NotFound):
        await store.pack_size("../../etc/passwd")
    with pytest.raises(NotFound):
        store.read_pack("0" * 64, 0, 1)


async def test_a_damaged_index_makes_its_chunks_missing_until_they_are_pushed_again(
    store: PackStore, objects: ObjectStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await push(store, [A])
    await push(store, [B])
    await objects.replace(f"packs/{digest(A).hex()}.index", b"FPX1 nonsense")
    store = await PackStore.open(objects, clock=clock)
    assert "damaged" in caplog.text
    assert await missing(store, A, B) == [True, False]
    await push(store, [A])
    store = await PackStore.open(objects, clock=clock)
    assert await missing(store, A, B) == [False, False]


async def test_a_lost_pack_makes_its_chunks_missing(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await push(store, [A])
    await objects.delete(f"packs/{digest(A).hex()}")
    assert await missing(await PackStore.open(objects, clock=clock), A) == [True]


async def test_a_garbage_pack_of_the_same_name_is_not_believed(
    store: PackStore, objects: ObjectStore
) -> None:
    await objects.put(f"packs/{digest(A).hex()}", b"rotten")
    await push(store, [A])
    assert await store.read_chunk(digest(A)) == A


async def test_a_restart_remembers_what_was_relied_on(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await push(store, [A])
    clock.advance(48 * 3600)
    assert await missing(store, A) == [False]
    clock.advance(23 * 3600)
    store = await PackStore.open(objects, clock=clock)
    done = await store.collect([], now=clock.utc(), grace=GRACE)
    assert done.packs_removed == 0
    assert await store.read_chunk(digest(A)) == A
    clock.advance(27 * 3600)
    assert (await store.collect([], now=clock.utc(), grace=GRACE)).packs_removed == 1


async def test_a_restart_forgets_no_touch_that_was_not_written_down_yet(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await push(store, [A])
    clock.advance(0.9 * 3600)
    assert await missing(store, A) == [False]
    assert await keys(objects, "touches") == []
    clock.advance(23.5 * 3600)
    store = await PackStore.open(objects, clock=clock)
    assert (await store.collect([], now=clock.utc(), grace=GRACE)).packs_removed == 0


def test_the_repr_tells_place_and_numbers(tmp_path: Path) -> None:
    store = asyncio.run(PackStore.open(LocalObjects(tmp_path), clock=ManualClock()))
    assert repr(store) == f"PackStore(LocalObjects({tmp_path}), Catalog(0 packs, 0 chunks))"
