from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from federation.artifacts.catalog import Catalog, Pack
from federation.artifacts.objects_local import LocalObjects
from federation.artifacts.touches import Touches
from federation.contract.errors import Exhausted
from federation.runtime.clock import ManualClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Full(LocalObjects):
    async def replace(self, key: str, data: bytes) -> None:
        raise Exhausted("the disk is full.")


def parts(objects: LocalObjects) -> tuple[Touches, Catalog, int]:
    catalog = Catalog()
    number = catalog.add(Pack("ab", 1, NOW, touched_at=NOW, noted_at=NOW), [])
    return Touches(objects, catalog, ManualClock(NOW + timedelta(days=1))), catalog, number


async def test_a_touch_is_written_down_and_read_again(tmp_path: Path) -> None:
    touches, _, number = parts(LocalObjects(tmp_path))
    assert await touches.load() == {}
    await touches.note([number])
    assert await touches.load() == {}  # nothing was touched
    touches.touch([number])
    await touches.note([number])
    assert await touches.load() == {"ab": int((NOW + timedelta(days=1)).timestamp())}


async def test_a_full_disk_does_not_stop_readers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touches, catalog, number = parts(Full(tmp_path))
    touches.touch([number])
    await touches.note([number])
    assert "disk is full" in caplog.text
    assert catalog.unnoted([number])  # the next one tries again


async def test_a_damaged_record_starts_anew(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    await objects.replace("touches", b'{"ab": "yesterday"}')
    assert await parts(objects)[0].load() == {}
