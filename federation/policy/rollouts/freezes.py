"""When nothing begins in a region: freeze windows, in its local time.

Input: windows, a time zone, a moment. Output: until when it is frozen. A window holds whenever a
clock on the wall shows a time in it: one hour that comes twice in autumn is frozen twice.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo

from federation.contract.rollout import FreezeWindow
from federation.contract.sync import Day
from federation.policy.records import RegionRecord

_DAYS = tuple(Day)  # Monday first, as in date.weekday()
_HORIZON = timedelta(days=8)


def frozen_until(windows: Sequence[FreezeWindow], zone: tzinfo, now: datetime) -> datetime | None:
    """Return when a freeze that holds at `now` (aware) ends; None if there is none.

    A freeze that never ends, since windows follow on each other, is looked at again after 8 days.
    """
    if not _is_frozen(windows, now.astimezone(zone)):
        return None
    for moment in _ends(windows, now, zone):
        if not _is_frozen(windows, moment.astimezone(zone)):
            return moment
    return now + _HORIZON


def frozen_regions(
    regions: Iterable[str],
    known: dict[str, RegionRecord],
    zone_of: Callable[[str], tzinfo],
    now: datetime,
) -> dict[str, datetime]:
    """Return which of these regions are frozen at `now`, and until when."""
    found = {}
    for name in regions:
        record = known.get(name)
        if record is None or not record.spec.freeze:
            continue
        zone = _zone(record.spec.time_zone, zone_of)
        if (end := frozen_until(record.spec.freeze, zone, now)) is not None:
            found[name] = end
    return found


def _zone(name: str, zone_of: Callable[[str], tzinfo]) -> tzinfo:
    try:
        return zone_of(name)
    except (KeyError, ValueError, OSError):  # the API checks it; this machine may know fewer
        return UTC


def _is_frozen(windows: Sequence[FreezeWindow], local: datetime) -> bool:
    clock = local.time().replace(fold=0, tzinfo=None)
    today, yesterday = _DAYS[local.weekday()], _DAYS[local.weekday() - 1]
    for window in windows:
        start, end = _clock(window.start), _clock(window.end)
        days = window.days or _DAYS
        if start < end:
            if today in days and start <= clock < end:
                return True
        elif (today in days and clock >= start) or (yesterday in days and clock < end):
            return True
    return False


def _ends(windows: Sequence[FreezeWindow], now: datetime, zone: tzinfo) -> list[datetime]:
    """Return the moments after `now` at which a window may end, in order."""
    ends = {_clock(window.end) for window in windows}
    first = now.astimezone(zone).date()
    found = set()
    for day in range(int(_HORIZON.days) + 1):
        for end in ends:
            local = datetime.combine(first + timedelta(days=day), end, tzinfo=zone)
            for fold in (0, 1):  # the hour that comes twice
                found.add(local.replace(fold=fold).astimezone(UTC))
    return sorted(moment for moment in found if moment > now)


def _clock(text: str) -> time:
    hours, _, minutes = text.partition(":")
    return time(int(hours), int(minutes))
