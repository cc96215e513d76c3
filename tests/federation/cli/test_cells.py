from datetime import UTC, datetime, timedelta

import pytest

from federation.cli.cells import age, duration, parse_time, shown, size, snapshot, text


@pytest.mark.parametrize(
    ("length", "shown"),
    [
        (timedelta(seconds=-1), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(hours=47), "47h"),
        (timedelta(days=41), "41d"),
    ],
)
def test_durations_are_short(length: timedelta, shown: str) -> None:
    assert duration(length.total_seconds()) == shown


def test_sizes_and_snapshots() -> None:
    assert [size(n) for n in (0, 999, 1000, 10**9, 10**13)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.0 GB",
        "10.0 TB",
    ]
    assert (snapshot(0), snapshot(None), snapshot(1 << 32)) == ("", "", "1.0")


def test_values_are_shown_as_people_write_them() -> None:
    assert [shown(v) for v in (None, 0, "x", [1, 2], {"a": 1})] == ["", "0", "x", "1,2", "a=1"]
    assert text("a", "b")({"a": {"b": 7}}, datetime(2026, 1, 1, tzinfo=UTC)) == "7"


def test_times_without_a_zone_are_utc_and_nonsense_is_none() -> None:
    assert parse_time("2026-01-01T00:00:00") == datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_time("soon") is None
    document = {"metadata": {"createdAt": "2026-01-01T00:00:00Z"}}
    assert age(document, datetime(2026, 1, 3, tzinfo=UTC)) == "2d"
    assert age({}, datetime(2026, 1, 3, tzinfo=UTC)) == ""
