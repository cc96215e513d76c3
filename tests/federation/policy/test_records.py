from dataclasses import FrozenInstanceError, is_dataclass

import pytest

from federation.policy.records import PERSISTENT, RetiredModel


def test_stored_records_are_dataclasses() -> None:
    assert all(is_dataclass(record) for record in PERSISTENT.values())


def test_records_are_replaced_and_not_changed() -> None:
    record = RetiredModel(name="m", last_version=1)
    with pytest.raises(FrozenInstanceError):
        record.last_version = 2  # type: ignore[misc]
