import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.sync import Day, Disk, SyncProgress, SyncSpec, SyncWindow
from federation.contract.sync_rules import (
    MAX_BYTES,
    MAX_ETA_S,
    MAX_WINDOWS,
    MAX_WORDS,
    bounded_disk,
    bounded_progress,
    check_sync,
    check_time_zone,
    parse_window,
    window_text,
)

clocks = st.times().map(lambda t: t.strftime("%H:%M"))
windows = st.builds(
    SyncWindow,
    start=clocks,
    end=clocks,
    days=st.sets(st.sampled_from(Day)).map(lambda d: tuple(x for x in Day if x in d)),
    max_mbytes_per_second=st.integers(0, 1000).map(float),
)


@given(windows)
def test_a_window_reads_as_it_is_written(window: SyncWindow) -> None:
    assert parse_window(window_text(window)) == window
    assert check_sync(SyncSpec(windows=(window,))).windows == (window,)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("22:00-06:00", ()),
        ("mon-fri 22:00-06:00", ("mon", "tue", "wed", "thu", "fri")),
        ("Sat,SUN 22:00-06:00", ("sat", "sun")),
        ("sat-mon 22:00-06:00", ("mon", "sat", "sun")),
        ("wed 22:00-06:00 2.5", ("wed",)),
    ],
)
def test_days_are_spans_and_lists(text: str, days: tuple[str, ...]) -> None:
    window = parse_window(text)
    assert tuple(day.value for day in window.days) == days
    assert (window.start, window.end) == ("22:00", "06:00")
    assert window.max_mbytes_per_second == (2.5 if text.endswith("2.5") else 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "mon", "22:00", "22:00-", "24:00-06:00", "22:60-06:00", "2:00-6:00", "-", "mon- 1-2"),
        *("day 22:00-06:00", "22:00-06:00 fast", "22:00-06:00 nan", "22:00-06:00 -1"),
        "22:00-06:00 1 2",
    ],
)
def test_what_is_no_window_is_told(text: str) -> None:
    with pytest.raises(Invalid):
        parse_window(text)


@given(st.text(max_size=40))
def test_any_text_is_a_window_or_invalid(text: str) -> None:
    try:
        window = parse_window(text)
    except Invalid:
        return
    check_sync(SyncSpec(windows=(window,)))


@pytest.mark.parametrize(
    "changes",
    [
        {"max_mbytes_per_second": -0.1},
        {"max_mbytes_per_second": math.inf},
        {"peer_max_mbytes_per_second": math.nan},
        {"disk_budget_gib": -1},
        {"disk_budget_gib": 1e300},
        {"time_zone": ""},
        {"time_zone": "../../etc/passwd"},
        {"time_zone": "/etc/localtime"},
        {"time_zone": "Europe/" + "x" * 100},
        {"windows": (SyncWindow(start="22:00", end="06:00"),) * (MAX_WINDOWS + 1)},
        {"windows": (SyncWindow(start="22", end="06:00"),)},
        {"windows": (SyncWindow(start="22:00", end="06:00 "),)},
        {"windows": (SyncWindow(start="22:00", end="06:00", days=(Day.MON, Day.MON)),)},
        {"windows": (SyncWindow(start="22:00", end="06:00", max_mbytes_per_second=-1),)},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        check_sync(replace(SyncSpec(), **changes))


def test_a_time_zone_is_one_of_this_machine() -> None:
    for name in ("UTC", "Europe/Dublin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"):
        assert check_time_zone(name) == name
        check_sync(SyncSpec(time_zone=name))
    for name in ("Europe/Nowhere", "", "../UTC", "/etc/localtime", "Europe", "x\x00y"):
        with pytest.raises(Invalid, match="is not a time zone"):
            check_time_zone(name)


numbers = st.integers(-(2**70), 2**70)
amounts = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.builds(
        SyncProgress,
        total_bytes=numbers,
        reused_bytes=numbers,
        from_origin_bytes=numbers,
        from_peers_bytes=numbers,
        done_bytes=numbers,
        bytes_per_second=amounts,
        eta_s=amounts,
        waiting=st.text(max_size=2 * MAX_WORDS),
    ),
    st.builds(Disk, used_bytes=numbers, free_bytes=numbers, budget_bytes=numbers),
)
def test_whatever_an_agent_tells_is_within_bounds(progress: SyncProgress, disk: Disk) -> None:
    shown = bounded_progress(progress)
    assert 0 <= shown.done_bytes <= shown.total_bytes <= MAX_BYTES
    for count in (shown.reused_bytes, shown.from_origin_bytes, shown.from_peers_bytes):
        assert 0 <= count <= MAX_BYTES
    assert 0 <= shown.eta_s <= MAX_ETA_S
    assert 0 <= shown.bytes_per_second <= MAX_BYTES
    assert len(shown.waiting) <= MAX_WORDS
    held = bounded_disk(disk)
    assert min(held.used_bytes, held.free_bytes, held.budget_bytes) >= 0
    assert max(held.used_bytes, held.free_bytes, held.budget_bytes) <= MAX_BYTES
    assert bounded_progress(shown) == shown


def test_what_makes_sense_stays_as_it_is() -> None:
    told = SyncProgress(total_bytes=9, done_bytes=3, bytes_per_second=1.5, eta_s=4, waiting="x")
    assert bounded_progress(told) == told
    assert bounded_disk(Disk(used_bytes=1, free_bytes=2)) == Disk(used_bytes=1, free_bytes=2)
