"""Windows against wall clocks that are turned twice a year; buckets and gates by property."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.policy.bandwidth import (
    CLOSED,
    HELD_S,
    HORIZON_DAYS,
    MAX_RANGE_BYTES,
    MIN_READ_BYTES,
    UNLIMITED,
    Bucket,
    Gate,
    check_spec,
    peer_rate,
    rate_at,
    shape_for,
)
from federation.contract.errors import Invalid
from federation.contract.sync import Day, SyncSpec, SyncWindow
from federation.contract.types import Urgency

BERLIN = ZoneInfo("Europe/Berlin")


def window(start: str, end: str, *days: Day, mbytes: float = 0.0) -> SyncWindow:
    return SyncWindow(start=start, end=end, days=days, max_mbytes_per_second=mbytes)


def night(*windows: SyncWindow, cap: float = 2.0) -> SyncSpec:
    return SyncSpec(windows=windows, max_mbytes_per_second=cap, time_zone="Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def opens_in(spec: SyncSpec, start: datetime, hours: int) -> list[tuple[str, float]]:
    """Return the changes from `start` on: moment in UTC, rate from then on."""
    found, now = [], start
    while (allowed := rate_at(spec, now, BERLIN)).until is not None:
        if allowed.until > start + timedelta(hours=hours):
            break
        now = allowed.until
        found.append((f"{now:%m-%dT%H:%M}", rate_at(spec, now, BERLIN).rate))
    return found


def test_without_windows_the_cap_holds_at_any_time() -> None:
    now = utc("2026-01-01T12:00")
    assert rate_at(SyncSpec(), now, BERLIN).rate == UNLIMITED
    allowed = rate_at(SyncSpec(max_mbytes_per_second=2.5), now, BERLIN)
    assert (allowed.rate, allowed.until) == (2.5e6, None)


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    spec = night(window("22:00", "06:00", Day.FRI))
    friday = utc("2026-01-02T00:00")
    assert opens_in(spec, friday, 48) == [("01-02T21:00", 2e6), ("01-03T05:00", CLOSED)]
    assert rate_at(spec, utc("2026-01-02T03:00"), BERLIN).rate == CLOSED  # of Thursday's night


def test_equal_start_and_end_are_a_whole_day() -> None:
    spec = night(window("08:00", "08:00", Day.MON))
    assert opens_in(spec, utc("2026-01-04T12:00"), 60) == [
        ("01-05T07:00", 2e6),
        ("01-06T07:00", CLOSED),
    ]


def test_a_window_brings_its_own_cap_and_the_first_open_one_counts() -> None:
    spec = night(window("01:00", "03:00", mbytes=50), window("00:00", "06:00"))
    assert opens_in(spec, utc("2026-01-04T22:00"), 12) == [
        ("01-04T23:00", 2e6),
        ("01-05T00:00", 50e6),
        ("01-05T02:00", 2e6),
        ("01-05T05:00", CLOSED),
    ]


def test_half_past_two_comes_twice_in_autumn() -> None:
    spec = night(window("02:15", "02:45"))
    assert opens_in(spec, utc("2026-10-24T20:00"), 10) == [
        ("10-25T00:15", 2e6),
        ("10-25T00:45", CLOSED),
        ("10-25T01:15", 2e6),
        ("10-25T01:45", CLOSED),
    ]


def test_half_past_two_does_not_come_in_spring() -> None:
    spec = night(window("02:15", "02:45"))
    assert opens_in(spec, utc("2026-03-28T20:00"), 10) == []
    longer = night(window("02:15", "03:45"))
    assert opens_in(longer, utc("2026-03-28T20:00"), 10) == [
        ("03-29T01:00", 2e6),  # the clocks jump from 02:00 to 03:00
        ("03-29T01:45", CLOSED),
    ]


def test_rollbacks_go_outside_of_windows_unless_they_wait() -> None:
    spec = night(window("01:00", "02:00", mbytes=9))
    noon = utc("2026-01-05T11:00")
    assert rate_at(spec, noon, BERLIN, Urgency.ROLLBACK).rate == 2e6
    assert rate_at(spec, noon, BERLIN, Urgency.PREFETCH).rate == CLOSED
    waits = replace(spec, rollback_waits=True)
    assert rate_at(waits, noon, BERLIN, Urgency.ROLLBACK).rate == CLOSED


@pytest.mark.parametrize("text", ["24:00", "7:00", "", "12:60", "12:00:00", "ab:cd", "١٢:٠٠"])
def test_malformed_times_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="not a time of day"):
        check_spec(night(window(text, "06:00")))


@pytest.mark.parametrize("number", [-1.0, float("nan"), float("inf")])
def test_caps_without_a_meaning_are_refused(number: float) -> None:
    with pytest.raises(Invalid, match="cap"):
        check_spec(SyncSpec(max_mbytes_per_second=number))
    with pytest.raises(Invalid, match="cap"):
        check_spec(night(window("01:00", "02:00", mbytes=number)))


def test_peers_have_a_rate_of_their_own() -> None:
    assert peer_rate(SyncSpec(max_mbytes_per_second=1)) == UNLIMITED
    assert peer_rate(SyncSpec(peer_max_mbytes_per_second=3)) == 3e6


clock_times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
windows = st.builds(
    SyncWindow,
    start=clock_times,
    end=clock_times,
    days=st.lists(st.sampled_from(Day), max_size=3, unique=True).map(tuple),
    max_mbytes_per_second=st.sampled_from([0.0, 1.0, 7.0]),
)
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(windows, min_size=1, max_size=3).map(tuple),
    zones,
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001
    st.randoms(use_true_random=False),
)
def test_nothing_changes_before_until_and_something_does_then(
    some: tuple[SyncWindow, ...], name: str, at: datetime, dice: object
) -> None:
    spec = SyncSpec(windows=some, time_zone=name, max_mbytes_per_second=3)
    zone, now = ZoneInfo(name), at.replace(tzinfo=UTC)
    allowed = rate_at(spec, now, zone)
    end = allowed.until or now + timedelta(days=HORIZON_DAYS - 1)
    assert end > now
    for _ in range(20):
        between = now + (end - now) * dice.random()  # type: ignore[attr-defined]
        if between < end:
            assert rate_at(spec, between, zone).rate == allowed.rate
    if allowed.until:
        assert rate_at(spec, allowed.until, zone).rate != allowed.rate
        before = allowed.until - timedelta(seconds=1)
        assert before < now or rate_at(spec, before, zone).rate == allowed.rate


# ---------------------------------------------------------------- shapes and buckets


@given(st.floats(1.0, 1e10))
def test_what_the_network_may_hold_is_half_a_second_or_two_short_ranges(rate: float) -> None:
    shape = shape_for(rate)
    assert 1 <= shape.streams <= 4
    assert MIN_READ_BYTES <= shape.read_bytes <= shape_for(UNLIMITED).read_bytes
    assert shape.range_bytes <= MAX_RANGE_BYTES
    assert shape.streams * shape.range_bytes <= max(rate / 2 * 1.01, 2 * 65536)
    assert shape.receive_buffer is None or shape.receive_buffer <= shape.range_bytes


rates = st.floats(1e3, 1e9)
reads = st.lists(st.tuples(st.integers(1, 256 << 10), st.floats(0, 0.2)), min_size=1, max_size=60)


@given(rates, reads)
def test_never_more_than_rate_burst_and_one_read(
    rate: float, some: list[tuple[int, float]]
) -> None:
    now = 100.0
    bucket, total = Bucket(rate, now), 0
    for count, idle in some:
        now += idle + bucket.pause_s(now + idle)
        before = total
        total += count
        bucket.pay(count, now)
        burst = max(0.05 * rate, MIN_READ_BYTES)
        assert before <= (now - 100.0) * rate * 1.000001 + burst + 1


@given(rates, st.integers(MIN_READ_BYTES, 256 << 10))
def test_who_always_asks_gets_the_whole_rate(rate: float, count: int) -> None:
    now, total = 0.0, 0
    bucket = Bucket(rate, now)
    while total < 50 * count:
        now += bucket.pause_s(now)
        bucket.pay(count, now)
        total += count
    assert total >= rate * now
    assert total <= rate * now + 2 * count + max(0.05 * rate, MIN_READ_BYTES)


def test_a_change_of_rate_holds_at_once_and_forgives_no_pause() -> None:
    bucket = Bucket(1e6, 0.0)
    bucket.pay(500_000, 0.0)
    assert bucket.pause_s(0.0) == pytest.approx(0.5)
    bucket.set_rate(1e3, 0.0)
    assert bucket.pause_s(0.0) == pytest.approx(0.5)  # not 500 s
    bucket.set_rate(CLOSED, 0.25)
    assert bucket.pause_s(100.0) == UNLIMITED
    bucket.set_rate(UNLIMITED, 100.0)
    assert bucket.pause_s(100.0) == 0.0
    bucket.pay(1 << 40, 100.0)
    assert bucket.pause_s(100.0) == 0.0


def test_time_that_goes_back_does_no_harm() -> None:
    bucket = Bucket(1e6, 10.0)
    bucket.pay(1_000_000, 10.0)
    assert bucket.pause_s(5.0) == pytest.approx(1.0)
    assert bucket.pause_s(10.5) == pytest.approx(0.5)


# ---------------------------------------------------------------- gates


@given(st.lists(st.sampled_from(Urgency), min_size=1, max_size=20))
def test_the_most_urgent_go_first_and_equals_in_order(urgencies: list[Urgency]) -> None:
    gate = Gate()
    tickets = {gate.ask(urgency, 0.0): (-urgency, n) for n, urgency in enumerate(urgencies)}
    served, now = [], 0.0
    while tickets:
        turn = [ticket for ticket in tickets if gate.pause_s(ticket, now) == 0]
        assert len(turn) <= 1
        for ticket in turn:
            gate.leave(ticket)
            served.append(tickets.pop(ticket))
        now += 0 if turn else HELD_S / 3
    assert served == sorted(served)
    assert not gate.crowded


def test_one_that_moves_keeps_the_less_urgent_out_and_one_that_stalls_does_not() -> None:
    gate = Gate()
    gate.saw(Urgency.ROLLBACK, 10.0)
    ticket = gate.ask(Urgency.PREFETCH, 10.1)
    assert gate.pause_s(ticket, 10.1) == pytest.approx(HELD_S - 0.1)
    assert gate.pause_s(ticket, 10.0 + HELD_S) == 0.0
    other = gate.ask(Urgency.ROLLBACK, 11.0)
    assert gate.pause_s(other, 11.0) == 0.0


def test_who_may_not_go_keeps_nobody_waiting() -> None:
    gate = Gate()
    closed = frozenset({Urgency.NORMAL})
    first, second = gate.ask(Urgency.NORMAL, 0.0), gate.ask(Urgency.PREFETCH, 0.0)
    assert gate.pause_s(first, 0.0, closed) == UNLIMITED
    assert gate.pause_s(second, 0.0, closed) == 0.0
