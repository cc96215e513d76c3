"""How fast models may be fetched, who goes first, and when not at all.

Input: a cluster's SyncSpec, times, and who asks to read. Output: rates in bytes a second, pauses in
seconds, whose turn it is. A payer reads first and pays after: the level of a Bucket may be below
zero, and whoever comes next waits until the debt is worn off.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from federation.contract.errors import Invalid
from federation.contract.sync import Day, SyncSpec, SyncWindow
from federation.contract.types import Urgency

UNLIMITED = float("inf")
CLOSED = 0.0
HORIZON_DAYS = 15  # a window of one day a week that falls into a gap of the clock comes again then
BURST_S = 0.05
HELD_S = 0.25  # for so long after it was last seen does a transfer keep less urgent ones waiting
MAX_READ_BYTES, MIN_READ_BYTES = 256 << 10, 4 << 10
MAX_RANGE_BYTES, MIN_RANGE_BYTES = 8 << 20, 64 << 10
MAX_STREAMS = 4
_READ_S = 0.025
_IN_FLIGHT_S = 0.5  # what may have been asked for and not been read, in seconds of the rate
_MBYTE = 1e6
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAYS = tuple(Day)  # Monday first, as in date.weekday()


# ---------------------------------------------------------------- windows


@dataclass(frozen=True, slots=True)
class Allowance:
    """`rate` in bytes a second: CLOSED, or UNLIMITED, or in between. `until` is when it changes
    next; None = not within HORIZON_DAYS."""

    rate: float
    until: datetime | None = None


def check_spec(spec: SyncSpec) -> SyncSpec:
    """Return the spec if every number and every time in it has a meaning; raises Invalid."""
    numbers = [spec.max_mbytes_per_second, spec.peer_max_mbytes_per_second]
    numbers += [window.max_mbytes_per_second for window in spec.windows]
    if not all(0 <= number < UNLIMITED for number in numbers):
        raise Invalid("a cap on bandwidth must be a number from 0 on (0 = no cap).")
    for window in spec.windows:
        _clock_time(window.start)
        _clock_time(window.end)
    return spec


def rate_at(
    spec: SyncSpec, now: datetime, zone: tzinfo, urgency: Urgency = Urgency.NORMAL
) -> Allowance:
    """Return what a transfer may take from the origin at `now` (aware), with windows in `zone`.

    A window is open whenever a clock on the wall shows a time in it: 02:30 that comes twice is open
    twice, and a window that lies in the hour that is left out does not open on that day. Of several
    open windows the first in the list counts. Raises Invalid for malformed times.
    """
    exempt = urgency is Urgency.ROLLBACK and not spec.rollback_waits
    rate = _rate(spec, now.astimezone(zone), exempt=exempt)
    for moment in _boundaries(spec.windows, now, zone):
        if _rate(spec, moment.astimezone(zone), exempt=exempt) != rate:
            return Allowance(rate, moment)
    return Allowance(rate)


def peer_rate(spec: SyncSpec) -> float:
    """Return the cap on what is taken from peers, and on what is given to them; bytes a second."""
    return _bytes_per_second(spec.peer_max_mbytes_per_second)


def _rate(spec: SyncSpec, local: datetime, *, exempt: bool) -> float:
    usual = _bytes_per_second(spec.max_mbytes_per_second)
    for window in spec.windows:
        if _is_open(window, local):
            own = window.max_mbytes_per_second
            return _bytes_per_second(own) if own else usual
    return usual if exempt or not spec.windows else CLOSED


def _is_open(window: SyncWindow, local: datetime) -> bool:
    start, end = _clock_time(window.start), _clock_time(window.end)
    at, today = local.time(), local.date()
    if start < end:
        return start <= at < end and _begins_on(window, today)
    yesterday = today - timedelta(days=1)
    return (at >= start and _begins_on(window, today)) or (
        at < end and _begins_on(window, yesterday)
    )


def _begins_on(window: SyncWindow, day: date) -> bool:
    return not window.days or _DAYS[day.weekday()] in window.days


def _boundaries(windows: Iterable[SyncWindow], now: datetime, zone: tzinfo) -> list[datetime]:
    """Return the moments after `now`, in order, at which some window may open or close."""
    times = {_clock_time(text) for window in windows for text in (window.start, window.end)}
    if not times:
        return []
    first = now.astimezone(zone).date() - timedelta(days=1)
    found: set[datetime] = set()
    for day in (first + timedelta(days=n) for n in range(HORIZON_DAYS + 2)):
        for at in (time(0), *times):  # midnight: the day of the week changes
            local = datetime.combine(day, at, zone)
            found.update(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
        found.update(_clock_changes(day, zone))
    return sorted(moment for moment in found if moment > now)


def _clock_changes(day: date, zone: tzinfo) -> Iterator[datetime]:
    """Yield the moment of a day, if any, at which the clocks on the wall are moved."""
    low = datetime.combine(day, time(0), zone).astimezone(UTC)
    high = low + timedelta(days=1)
    before = low.astimezone(zone).utcoffset()
    if high.astimezone(zone).utcoffset() == before:
        return
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    yield high


def _clock_time(text: str) -> time:
    if (match := _TIME.fullmatch(text)) is None:
        raise Invalid(f"{text[:20]!r} is not a time of day.", hint="Write it like 06:30 or 23:00.")
    return time(int(match[1]), int(match[2]))


def _bytes_per_second(mbytes: float) -> float:
    return mbytes * _MBYTE if mbytes else UNLIMITED


# ---------------------------------------------------------------- rates


@dataclass(frozen=True, slots=True)
class Shape:
    """How to ask for bytes under a cap: the longest range, how many ranges at once, the longest
    read between two permits, and the receive buffer of a new connection (None = the system's)."""

    streams: int
    range_bytes: int
    read_bytes: int
    receive_buffer: int | None


def shape_for(rate: float) -> Shape:
    """Return how to ask under a cap, so that what the network holds for us, which no cap reaches
    any more, is at most half a second's worth (but always two short ranges)."""
    if rate == UNLIMITED:
        return Shape(MAX_STREAMS, MAX_RANGE_BYTES, MAX_READ_BYTES, None)
    in_flight = rate * _IN_FLIGHT_S
    range_bytes = _between(MIN_RANGE_BYTES, in_flight / 2, MAX_RANGE_BYTES)
    return Shape(
        streams=_between(2, in_flight / MAX_RANGE_BYTES, MAX_STREAMS),
        range_bytes=range_bytes,
        read_bytes=_between(MIN_READ_BYTES, rate * _READ_S, MAX_READ_BYTES),
        receive_buffer=range_bytes if range_bytes < MAX_RANGE_BYTES else None,
    )


def _between(low: int, value: float, high: int) -> int:
    return int(min(max(low, value), high))


class Bucket:
    """A debt bucket. Times are monotonic seconds, and never go back."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._level = 0.0
        self._at = now

    def __repr__(self) -> str:
        return f"Bucket({self._rate:.0f} B/s, level {self._level:.0f})"

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self._rate

    def set_rate(self, rate: float, now: float) -> None:
        """Change the rate from now on. A debt stays, but never lasts longer than before."""
        pause = self.pause_s(now)
        self._rate = rate
        if rate not in (UNLIMITED, CLOSED):
            self._level = max(self._level, -pause * rate) if pause < UNLIMITED else self._level

    def pay(self, count: int, now: float) -> None:
        """Note that `count` bytes were read."""
        self._settle(now)
        if self._rate != UNLIMITED:
            self._level -= count

    def pause_s(self, now: float) -> float:
        """Return for how long nobody may read; UNLIMITED while the rate is 0."""
        self._settle(now)
        if self._rate == CLOSED:
            return UNLIMITED
        return max(0.0, -self._level / self._rate)

    def _settle(self, now: float) -> None:
        passed, self._at = max(0.0, now - self._at), max(self._at, now)
        if self._rate == UNLIMITED:
            self._level = 0.0
        elif self._rate > 0:
            burst = max(BURST_S * self._rate, MIN_READ_BYTES)
            self._level = min(burst, self._level + passed * self._rate)


# ---------------------------------------------------------------- whose turn


@dataclass(eq=False)
class Gate:
    """Who may read next: the most urgent, and among equals whoever asked first.

    A transfer that was seen less than HELD_S ago keeps all less urgent ones out, even while it does
    not ask: it is reading. One that stalls for longer does not.
    """

    _waiting: dict[int, Urgency] = field(default_factory=dict)  # by ticket, in order of arrival
    _seen: dict[Urgency, float] = field(default_factory=dict)
    _tickets: int = 0

    def __repr__(self) -> str:
        return f"Gate(waiting={[urgency.name for urgency in self._waiting.values()]})"

    @property
    def crowded(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def ask(self, urgency: Urgency, now: float) -> int:
        """Join the queue; return a ticket."""
        self._tickets += 1
        self._waiting[self._tickets] = urgency
        self.saw(urgency, now)
        return self._tickets

    def leave(self, ticket: int) -> None:
        """Leave the queue, served or not."""
        self._waiting.pop(ticket, None)

    def saw(self, urgency: Urgency, now: float) -> None:
        """Note that a transfer of this urgency moves."""
        self._seen[urgency] = now

    def pause_s(self, ticket: int, now: float, closed: frozenset[Urgency] = frozenset()) -> float:
        """Return 0 if it is this one's turn, how long it has to wait at least otherwise; UNLIMITED
        if that depends on others. Those in `closed` wait, and keep nobody waiting."""
        urgency = self._waiting[ticket]
        if urgency in closed:
            return UNLIMITED
        for other, theirs in self._waiting.items():
            if theirs not in closed and (-theirs, other) < (-urgency, ticket):
                return UNLIMITED
        held = [
            at + HELD_S - now for u, at in self._seen.items() if u > urgency and u not in closed
        ]
        return max(0.0, *held) if held else 0.0
