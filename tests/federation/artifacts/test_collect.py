"""Collections of garbage, over a directory and a fake S3 server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from federation.artifacts.base import ObjectStore
from federation.artifacts.objects_local import LocalObjects
from federation.artifacts.packs import PackStore
from federation.artifacts.stores import open_objects
from federation.chunking.encoding import encode
from federation.contract.errors import Conflict, NotFound
from federation.contract.locations import Frame
from federation.runtime.clock import ManualClock
from tests.federation.artifacts.packing import content, digest, frame, keys, push, put_manifest
from tests.federation.artifacts.servers import S3Server

GRACE = timedelta(hours=24)
DAY_S = 24 * 3600.0
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


async def test_what_is_not_used_goes_after_the_grace(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await push(store, [A])
    await push(store, [B])
    kept, dropped = await put_manifest(store, [A]), await put_manifest(store, [B])
    await store.put_document("release", dropped, b"release")
    clock.advance(0.9 * DAY_S)
    assert (await store.collect([kept], now=clock.utc(), grace=GRACE)).packs_removed == 0
    clock.advance(0.2 * DAY_S)
    planned = await store.collect([kept], now=clock.utc(), grace=GRACE, dry_run=True)
    assert await store.read_chunk(digest(B)) == B
    done = await store.collect([kept], now=clock.utc(), grace=GRACE)
    assert done == planned
    assert (done.packs, done.packs_removed, done.packs_rewritten) == (2, 1, 0)
    assert done.documents_removed == 2
    assert done.bytes_freed > len(B)
    assert await store.missing([digest(A), digest(B)]) == [False, True]
    assert await keys(objects, "manifests/") == [f"manifests/{kept}"]
    assert await keys(objects, "releases/") == []
    assert await keys(objects) == [f"packs/{digest(A).hex()}{end}" for end in ("", ".index")]
    again = await store.collect([kept], now=clock.utc(), grace=GRACE)
    assert (again.packs_removed, again.bytes_freed) == (0, 0)


async def test_a_sparse_pack_is_rewritten_and_its_chunks_stay_readable(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await push(store, [A, B, C])
    await push(store, [D, content(5), content(6)])
    live = await put_manifest(store, [B], [D])
    clock.advance(2 * DAY_S)
    planned = await store.collect([live], now=clock.utc(), grace=GRACE, dry_run=True)
    done = await store.collect([live], now=clock.utc(), grace=GRACE)
    assert done == planned
    assert (done.packs_rewritten, done.packs_removed, done.bytes_freed) == (2, 2, 4 * len(A))
    for opened in (store, await PackStore.open(objects, clock=clock)):
        assert [await opened.read_chunk(digest(data)) for data in (B, D)] == [B, D]
        assert await opened.missing([digest(A), digest(C)]) == [True, True]
    assert await keys(objects) == [f"packs/{digest(B + D).hex()}{end}" for end in ("", ".index")]


async def test_a_pack_that_was_located_outlives_its_rewriting(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await push(store, [A, B, C])
    live = await put_manifest(store, [B])
    clock.advance(2 * DAY_S)
    found = await store.locate([digest(B)], url_lifetime=timedelta(hours=12))
    done = await store.collect([live], now=clock.utc(), grace=GRACE)
    assert (done.packs_rewritten, done.packs_removed) == (1, 0)
    assert await store.pack_size(found.packs[0].id) == len(A + B + C)
    (moved,) = (await store.locate([digest(B)], url_lifetime=timedelta(hours=12))).packs
    assert moved.id == digest(B).hex()
    store = await PackStore.open(objects, clock=clock)
    clock.advance(1.1 * DAY_S)
    # Times of a bucket have whole seconds: if it takes the old pack for the younger one, the same
    # new pack comes about once more.
    assert (await store.collect([live], now=clock.utc(), grace=GRACE)).packs_removed == 1
    assert await keys(objects) == [f"packs/{digest(B).hex()}{end}" for end in ("", ".index")]
    assert await store.read_chunk(digest(B)) == B


async def test_a_running_push_keeps_what_it_was_told_is_there(
    store: PackStore, clock: ManualClock
) -> None:
    await push(store, [A, B])
    clock.advance(2 * DAY_S)
    assert await store.missing([digest(A), digest(C)]) == [False, True]  # a push of A and C begins
    upload = store.upload()
    await upload.add(frame(C), C)
    done = await store.collect([], now=clock.utc(), grace=GRACE)
    assert (done.packs_removed, done.packs_rewritten) == (0, 0)
    await upload.seal()
    live = await put_manifest(store, [A, C])
    assert (await store.collect([], now=clock.utc(), grace=GRACE)).documents_removed == 0
    clock.advance(2 * DAY_S)
    await store.collect([live], now=clock.utc(), grace=GRACE)
    assert [await store.read_chunk(digest(data)) for data in (A, C)] == [A, C]


async def test_a_chunk_that_is_sent_again_is_as_good_as_new(
    store: PackStore, clock: ManualClock
) -> None:
    await push(store, [A])
    clock.advance(2 * DAY_S)
    upload = store.upload()
    await upload.add(frame(A), A)
    assert (await store.collect([], now=clock.utc(), grace=GRACE)).packs_removed == 0
    await upload.seal()
    assert await store.missing([digest(A)]) == [False]


async def test_a_base_lives_as_long_as_what_is_encoded_against_it(
    store: PackStore, clock: ManualClock
) -> None:
    await push(store, [A])
    delta = encode(B, 0x82, A)
    upload = store.upload()
    head = Frame(digest=digest(B), length=len(B), stored=len(delta), code=0x82, base=digest(A))
    await upload.add(head, delta)
    await upload.seal()
    live = await put_manifest(store, [B])
    clock.advance(2 * DAY_S)
    assert (await store.collect([live], now=clock.utc(), grace=GRACE)).packs_removed == 0
    assert await store.read_chunk(digest(B)) == B


async def test_a_push_that_relies_on_a_difference_keeps_its_base_too(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await push(store, [A])
    delta = encode(B, 0x82, A)
    upload = store.upload()
    head = Frame(digest=digest(B), length=len(B), stored=len(delta), code=0x82, base=digest(A))
    await upload.add(head, delta)
    await upload.seal()
    clock.advance(2 * DAY_S)
    assert await store.missing([digest(B)]) == [False]  # nobody uses it yet: a push is under way
    assert (await store.collect([], now=clock.utc(), grace=GRACE)).packs_removed == 0
    assert await store.read_chunk(digest(B)) == B
    clock.advance(2 * DAY_S)
    assert (await store.collect([], now=clock.utc(), grace=GRACE)).packs_removed == 2
    assert await store.missing([digest(A), digest(B)]) == [True, True]


async def test_leftovers_of_a_kill_go_after_the_grace(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await objects.put(f"packs/{'a' * 64}", b"a pack whose index was never written")
    await objects.put(f"packs/{'b' * 64}.index", b"an index whose pack was deleted")
    await objects.put(f"packs/{'c' * 64}", b"a pack")
    await objects.put(f"packs/{'c' * 64}.index", b"whose index is damaged: somebody has to look")
    assert (await store.collect([], now=clock.utc(), grace=GRACE)).bytes_freed == 0
    clock.advance(2 * DAY_S)
    done = await store.collect([], now=clock.utc(), grace=GRACE)
    assert (done.packs_removed, done.packs) == (1, 0)
    assert await keys(objects) == [f"packs/{'c' * 64}", f"packs/{'c' * 64}.index"]


async def test_without_the_manifest_of_a_live_version_nothing_is_removed(
    store: PackStore, clock: ManualClock
) -> None:
    await push(store, [A])
    clock.advance(2 * DAY_S)
    with pytest.raises(Conflict, match="e" * 64):
        await store.collect(["e" * 64], now=clock.utc(), grace=GRACE)
    assert await store.read_chunk(digest(A)) == A


async def test_a_damaged_chunk_is_not_copied_and_its_pack_stays(
    store: PackStore, objects: ObjectStore, clock: ManualClock
) -> None:
    await push(store, [A, B, C, D])
    live = await put_manifest(store, [B])
    await objects.replace(f"packs/{digest(A + B + C + D).hex()}", A + C + C + D)
    clock.advance(2 * DAY_S)
    done = await store.collect([live], now=clock.utc(), grace=GRACE)
    assert done.packs_removed == 0
    assert await keys(objects) == [
        f"packs/{digest(A + B + C + D).hex()}{end}" for end in ("", ".index")
    ]


async def test_a_removed_chunk_can_be_pushed_again(store: PackStore, clock: ManualClock) -> None:
    await push(store, [A])
    clock.advance(2 * DAY_S)
    await store.collect([], now=clock.utc(), grace=GRACE)
    with pytest.raises(NotFound):
        await store.read_chunk(digest(A))
    await push(store, [A])
    assert await store.read_chunk(digest(A)) == A
