"""Freeze windows in a region's local time."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from federation.contract.resources import RegionSpec
from federation.contract.rollout import FreezeWindow
from federation.contract.sync import Day
from federation.contract.types import Location
from federation.policy.meta import Meta
from federation.policy.records import RegionRecord
from federation.policy.rollouts.freezes import frozen_regions, frozen_until

DUBLIN = ZoneInfo("Europe/Dublin")
NIGHT = FreezeWindow(start="22:00", end="06:00")
FRIDAY = FreezeWindow(start="16:00", end="00:00", days=(Day.FRI,))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_outside_of_a_window_nothing_is_frozen() -> None:
    assert frozen_until((NIGHT,), UTC, at("2026-01-01T12:00")) is None
    assert frozen_until((), UTC, at("2026-01-01T12:00")) is None


def test_a_night_ends_on_the_next_day() -> None:
    assert frozen_until((NIGHT,), UTC, at("2026-01-01T22:00")) == at("2026-01-02T06:00")
    assert frozen_until((NIGHT,), UTC, at("2026-01-02T05:59")) == at("2026-01-02T06:00")
    assert frozen_until((NIGHT,), UTC, at("2026-01-02T06:00")) is None


def test_windows_are_in_local_time() -> None:
    assert frozen_until((NIGHT,), DUBLIN, at("2026-07-01T21:30")) == at("2026-07-02T05:00")


def test_a_window_begins_on_its_days() -> None:
    assert frozen_until((FRIDAY,), UTC, at("2026-01-02T17:00")) == at("2026-01-03T00:00")
    assert frozen_until((FRIDAY,), UTC, at("2026-01-01T17:00")) is None


def test_windows_that_follow_on_each_other_are_one() -> None:
    two = (FRIDAY, FreezeWindow(start="00:00", end="00:00", days=(Day.SAT, Day.SUN)))
    assert frozen_until(two, UTC, at("2026-01-02T17:00")) == at("2026-01-05T00:00")


def test_a_freeze_without_end_is_looked_at_again() -> None:
    always = (FreezeWindow(start="00:00", end="00:00"),)
    now = at("2026-01-02T17:00")
    assert frozen_until(always, UTC, now) == now + timedelta(days=8)


def test_the_hour_that_comes_twice_is_frozen_twice() -> None:
    one = (FreezeWindow(start="01:00", end="02:00"),)
    # On 25 October 2026 clocks in Dublin go from 02:00 back to 01:00, at 01:00 UTC.
    assert frozen_until(one, DUBLIN, at("2026-10-25T00:30")) == at("2026-10-25T02:00")


def test_regions_are_asked_in_their_own_zones() -> None:
    def region(zone: str, *windows: FreezeWindow) -> RegionRecord:
        spec = RegionSpec(
            location=Location(latitude=1.0, longitude=1.0), time_zone=zone, freeze=windows
        )
        meta = Meta(name="r", generation=1, resource_version=1, created_at=at("2026-01-01T00:00"))
        return RegionRecord(meta=meta, spec=spec)

    known = {
        "eu": region("Europe/Dublin", NIGHT),
        "x": region("No/Where", NIGHT),
        "us": region("UTC"),
    }
    now = at("2026-07-01T21:30")
    assert frozen_regions(("eu", "us", "x", "gone"), known, ZoneInfo, now) == {
        "eu": at("2026-07-02T05:00")
    }
