from dataclasses import FrozenInstanceError

import pytest

from federation.contract.sync import Day, Disk, SyncProgress, SyncSpec
from federation.contract.sync_rules import bounded_disk, bounded_progress, check_sync


def test_without_a_word_a_cluster_fetches_at_any_time_without_a_cap() -> None:
    spec = check_sync(SyncSpec())
    assert (spec.max_mbytes_per_second, spec.windows, spec.rollback_waits) == (0, (), False)
    assert bounded_progress(SyncProgress()) == SyncProgress()
    assert bounded_disk(Disk()) == Disk()


def test_a_week_begins_with_monday() -> None:
    assert [day.value for day in Day][::6] == ["mon", "sun"]
    assert len(Day) == 7


def test_values_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        SyncSpec().time_zone = "UTC"  # type: ignore[misc]
