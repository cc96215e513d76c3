from datetime import UTC, datetime

import pytest

from federation.contract.capacity import Device
from federation.contract.types import Location, Runtime
from federation.policy.plain import plain


def test_values_become_builtins() -> None:
    assert plain({"at": datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)}) == {
        "at": "2026-01-02T03:04:05.006Z"
    }
    assert plain((Location(latitude=1.5, longitude=2), None)) == [
        {"latitude": 1.5, "longitude": 2},
        None,
    ]
    assert type(plain(Runtime.ONNX)) is str


def test_what_has_no_plain_form_is_an_error() -> None:
    with pytest.raises(TypeError, match="type has no plain form"):
        plain(Device)
    with pytest.raises(TypeError, match="set has no plain form"):
        plain({1})
