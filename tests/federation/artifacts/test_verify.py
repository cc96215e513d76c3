from pathlib import Path

import pytest

from federation.artifacts.objects_local import LocalObjects
from federation.artifacts.packs import PackStore
from federation.contract.release import Release, envelope_bytes, seal
from federation.runtime.clock import SystemClock
from tests.federation.artifacts.packing import content, digest, keys, push, put_manifest

A, B, C = (content(n) for n in range(3))


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path)


@pytest.fixture
async def store(objects: LocalObjects) -> PackStore:
    return await PackStore.open(objects, clock=SystemClock())


def release(manifest: str) -> bytes:
    return envelope_bytes(
        seal(Release(model="m", manifest=manifest, size=1, sequence=1, created=1))
    )


async def test_a_whole_package_has_no_damage(store: PackStore) -> None:
    await push(store, [A, B])
    name = await put_manifest(store, [A, B], [A])
    await store.put_document("release", name, release(name))
    assert await store.verify([name]) == []


async def test_a_flipped_bit_is_found_and_heals_by_a_push(
    store: PackStore, objects: LocalObjects
) -> None:
    await push(store, [A, B])
    name = await put_manifest(store, [A, B])
    pack = f"packs/{digest(A + B).hex()}"
    await objects.replace(pack, A + bytes([B[0] ^ 4]) + B[1:])
    (damage,) = await store.verify([name])
    assert damage.key == pack
    assert digest(B).hex() in damage.problem
    for opened in (store, await PackStore.open(objects, clock=SystemClock())):
        assert await opened.missing([digest(A), digest(B)]) == [False, True]
    await push(store, [A, B])
    for opened in (store, await PackStore.open(objects, clock=SystemClock())):
        assert await opened.verify([name]) == []


async def test_a_pack_with_nothing_good_in_it_goes(store: PackStore, objects: LocalObjects) -> None:
    await push(store, [A])
    name = await put_manifest(store, [A])
    await objects.replace(f"packs/{digest(A).hex()}", B)
    assert len(await store.verify([name])) == 1
    assert await keys(objects) == []
    await push(store, [A])
    assert await store.verify([name]) == []


async def test_a_lost_pack_is_found(store: PackStore, objects: LocalObjects) -> None:
    await push(store, [A])
    name = await put_manifest(store, [A])
    await objects.delete(f"packs/{digest(A).hex()}")
    assert len(await store.verify([name])) == 1
    (damage,) = await store.verify([name])
    assert damage.key == f"manifests/{name}"
    assert "missing" in damage.problem


async def test_documents_are_checked(store: PackStore, objects: LocalObjects) -> None:
    await push(store, [A])
    name, other = await put_manifest(store, [A]), await put_manifest(store, [A, A])
    await store.put_document("release", name, release(other))
    await store.put_document("release", other, b"nonsense")
    found = await store.verify([name, other, "0" * 64])
    assert [damage.key.partition("/")[0] for damage in found] == [
        "releases", "releases", "manifests",
    ]  # fmt: skip
    await objects.replace(f"manifests/{name}", b"{}")
    (damage,) = await store.verify([name])
    assert "digest" in damage.problem
