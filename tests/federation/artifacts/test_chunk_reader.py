from datetime import UTC, datetime
from pathlib import Path

import pytest

from federation.artifacts.catalog import Catalog, Pack
from federation.artifacts.chunk_reader import ChunkReader, check, checked, pack_key
from federation.artifacts.index import Record
from federation.artifacts.objects_local import LocalObjects
from federation.chunking.encoding import encode
from federation.contract.errors import Invalid, NotFound
from tests.federation.artifacts.packing import content, digest

A, B = content(1), content(2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def packed(name: str, *records: Record) -> tuple[Pack, list[Record]]:
    return Pack(name, 1, NOW, touched_at=NOW, noted_at=NOW), list(records)


def test_right_bytes_pass_and_others_do_not() -> None:
    assert check(digest(A), len(A), 0, A, b"") == A
    assert check(digest(B), len(B), 0x82, encode(B, 0x82, A), A) == B
    for stored, code, base in [
        (B, 0, b""),
        (A[:-1], 0, b""),
        (encode(B, 0x82, A), 0x82, content(3)),
    ]:
        with pytest.raises(Invalid):
            check(digest(A), len(A), code, stored, base)


async def test_large_chunks_are_checked_as_well() -> None:
    large = content(3, 1 << 20)
    assert await checked(digest(large), len(large), 0, large, b"") == large
    with pytest.raises(Invalid, match=digest(A).hex()):
        await checked(digest(A), len(large), 0, large, b"")


async def test_a_chunk_that_moved_is_read_where_it_is_now(tmp_path: Path) -> None:
    """A collection may remove the pack between the look-up and the read."""
    catalog, objects = Catalog(), LocalObjects(tmp_path)
    record = Record(digest(A), 0, len(A), len(A), 0)
    catalog.add(*packed("0a", record))
    await objects.put(pack_key("0b"), A)

    class Moving(LocalObjects):
        def read(self, key: str, start: int = 0, length: int | None = None):  # type: ignore[no-untyped-def]
            catalog.add(*packed("0b", record), over=True)
            return super().read(key, start, length)

    moving = Moving.__new__(Moving)
    moving.__dict__.update(objects.__dict__)
    assert await ChunkReader(moving, catalog).read(digest(A)) == A


async def test_a_circle_of_bases_ends(tmp_path: Path) -> None:
    catalog = Catalog()
    one = Record(digest(A), 0, 9, 9, 0x82, digest(B))
    two = Record(digest(B), 0, 9, 9, 0x82, digest(A))
    catalog.add(*packed("0a", one, two))
    with pytest.raises(Invalid, match="chain"):
        await ChunkReader(LocalObjects(tmp_path), catalog).read(digest(A))
    with pytest.raises(NotFound):
        await ChunkReader(LocalObjects(tmp_path), catalog).read(bytes(32))
