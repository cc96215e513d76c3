"""What only the intake sees; uploads as a whole are in test_packs.py."""

import asyncio
from pathlib import Path

import pytest

from federation.artifacts.intake import PACK_BYTES, check_frame
from federation.artifacts.objects_local import LocalObjects, LocalWriter
from federation.artifacts.packs import PackStore
from federation.contract.errors import Exhausted, Invalid
from federation.contract.locations import Frame
from federation.runtime.clock import SystemClock
from tests.federation.artifacts.packing import content, digest, frame

A, B = content(1), content(2, 2 << 20)


class Told(LocalObjects):
    """A directory that tells what happens, writes slowly, and fails on demand."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.events: list[str] = []
        self.failing = False

    def writer(self) -> LocalWriter:
        return ToldWriter(self, super().writer())

    async def replace(self, key: str, data: bytes) -> None:
        self.events.append(f"index {key.endswith('.index')}")
        await super().replace(key, data)


class ToldWriter(LocalWriter):
    def __init__(self, store: Told, writer: LocalWriter) -> None:
        self.__dict__.update(writer.__dict__)
        self.store = store

    async def write(self, data: bytes) -> None:
        half = len(data) // 2
        await super().write(data[:half])
        await asyncio.sleep(0.02)
        if self.store.failing:
            raise Exhausted("the disk is full.")
        await super().write(data[half:])

    async def commit(self, key: str) -> None:
        self.store.events.append("pack")
        await super().commit(key)


@pytest.fixture
def objects(tmp_path: Path) -> Told:
    return Told(tmp_path)


async def test_the_pack_is_durable_before_its_index(objects: Told) -> None:
    upload = (await PackStore.open(objects, clock=SystemClock())).upload()
    await upload.add(frame(A), A)
    await upload.seal()
    assert objects.events == ["pack", "index True"]


async def test_a_request_cut_inside_of_a_write_spoils_nobody_elses_pack(objects: Told) -> None:
    store = await PackStore.open(objects, clock=SystemClock())
    cut, other = store.upload(), store.upload()
    await other.add(frame(A), A)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(cut.add(frame(B), B), 0.01)
    await other.seal()
    assert await store.read_chunk(digest(A)) == A
    await cut.add(frame(B), B)
    await cut.seal()
    assert await store.read_chunk(digest(B)) == B


async def test_a_failed_write_leaves_no_file_and_the_next_upload_works(
    objects: Told, tmp_path: Path
) -> None:
    store = await PackStore.open(objects, clock=SystemClock())
    upload = store.upload()
    objects.failing = True
    with pytest.raises(Exhausted):
        await upload.add(frame(B), B)
    assert list((tmp_path / "incoming").iterdir()) == []
    objects.failing = False
    await upload.add(frame(A), A)
    await upload.seal()
    assert await store.missing([digest(A), digest(B)]) == [False, True]


def test_no_chunk_is_larger_than_a_pack() -> None:
    with pytest.raises(Invalid):
        check_frame(Frame(digest=bytes(32), length=PACK_BYTES, stored=1, code=1), b"x")
