"""The bandwidth that transfers share: a permit for each read, by urgency, under caps and windows.

Input: the cluster's SyncSpec as it is told (`settings_changed`), and reads of worker threads.
Output: permits; waits where there is none. `policy.bandwidth` decides, here threads wait. There are
three lanes, which do not count against each other: what is taken from the origin, what is taken
from peers, and what is given to peers.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_agent.policy.bandwidth import (
    CLOSED,
    MAX_STREAMS,
    UNLIMITED,
    Bucket,
    Gate,
    Shape,
    check_spec,
    peer_rate,
    rate_at,
    shape_for,
)
from edge_agent.sync.breath import Breath
from edge_agent.sync.cancel import Cancel
from federation.contract.errors import Invalid
from federation.contract.sync import SyncSpec
from federation.contract.types import Urgency
from federation.runtime.clock import Clock, SystemClock

RECHECK_S = 30.0  # the wall clock may have been set meanwhile
HELD_CONNECTION_S = 10.0  # a server's connection is not kept open for longer without reading
_LONGEST_NAP_S = 0.25


class Held(Exception):
    """No permit came for so long that the connection should be given up; nothing has failed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for a lane until `until` (monotonic seconds)."""

    rate: float
    closed: frozenset[Urgency]
    until: float


class Lane:
    """One direction of traffic. All methods may be called from any thread."""

    def __init__(
        self, plan: Callable[[], Plan], clock: Clock, *, streams: int = MAX_STREAMS
    ) -> None:
        self._make_plan, self._clock, self._most = plan, clock, streams
        self._changed = threading.Condition()
        self._plan = plan()
        self._bucket = Bucket(self._plan.rate, clock.monotonic_s())
        self._gate = Gate()
        # In order of arrival: the first few hold a stream, the others wait for one.
        self._streams: dict[Urgency, list[object]] = {urgency: [] for urgency in Urgency}
        self.total_bytes = 0

    def __repr__(self) -> str:
        return f"Lane({self._bucket}, {self._gate}, {self.total_bytes} bytes)"

    @property
    def shape(self) -> Shape:
        """How to ask for bytes at the present rate."""
        with self._changed:
            return shape_for(self._refreshed(self._clock.monotonic_s()).rate)

    @contextlib.contextmanager
    def stream(self, urgency: Urgency, cancel: Cancel) -> Iterator[Shape]:
        """Wait until a range may be asked for, and count as one of the streams inside."""
        with self._slot(urgency, cancel):
            self.permit(urgency, cancel, patience_s=UNLIMITED)
            yield self.shape

    def permit(
        self, urgency: Urgency, cancel: Cancel, *, patience_s: float = HELD_CONNECTION_S
    ) -> int:
        """Wait for a turn to read; return how many bytes may be read before the next permit.

        Raises Held after `patience_s`, Cancelled.
        """
        with cancel.waking(self.wake), self._changed:
            started = now = self._clock.monotonic_s()
            ticket = self._gate.ask(urgency, now)
            try:
                while (pause := self._pause_s(ticket, now)) > 0:
                    if now - started >= patience_s:
                        raise Held
                    left = min(pause, patience_s - (now - started), self._plan.until - now)
                    self._changed.wait(max(left, 0.001))
                    cancel.check()
                    now = self._clock.monotonic_s()
                return shape_for(self._plan.rate).read_bytes
            finally:
                self._gate.leave(ticket)
                if self._gate.crowded:
                    self._changed.notify_all()

    def pay(self, urgency: Urgency, count: int) -> None:
        """Note that `count` bytes came off the network (or went out)."""
        with self._changed:
            now = self._clock.monotonic_s()
            self.total_bytes += count
            self._bucket.pay(count, now)
            self._gate.saw(urgency, now)

    async def admit(self, count: int, urgency: Urgency = Urgency.NORMAL) -> None:
        """Wait until bytes may move, then pay for `count`; for asyncio, and without a queue."""
        while True:
            with self._changed:
                now = self._clock.monotonic_s()
                plan = self._refreshed(now)
                pause = UNLIMITED if urgency in plan.closed else self._bucket.pause_s(now)
            if pause <= 0:
                break
            await asyncio.sleep(min(pause, _LONGEST_NAP_S))
        self.pay(urgency, count)

    def is_closed(self, urgency: Urgency) -> bool:
        """Whether nothing of this urgency may move now."""
        with self._changed:
            return urgency in self._refreshed(self._clock.monotonic_s()).closed

    def replan(self) -> None:
        """Settings changed: they hold from the next permit on."""
        with self._changed:
            self._replan(self._clock.monotonic_s())
            self._changed.notify_all()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()

    @contextlib.contextmanager
    def _slot(self, urgency: Urgency, cancel: Cancel) -> Iterator[None]:
        queue, me = self._streams[urgency], object()
        with self._changed:
            queue.append(me)
        try:
            with cancel.waking(self.wake), self._changed:
                while queue.index(me) >= self._stream_limit():
                    self._changed.wait(max(self._plan.until - self._clock.monotonic_s(), 0.001))
                    cancel.check()
            yield
        finally:
            with self._changed:
                queue.remove(me)
                self._changed.notify_all()

    def _stream_limit(self) -> int:
        rate = self._refreshed(self._clock.monotonic_s()).rate
        return min(shape_for(rate).streams, self._most)

    def _pause_s(self, ticket: int, now: float) -> float:
        plan = self._refreshed(now)
        turn = self._gate.pause_s(ticket, now, plan.closed)
        return max(turn, self._bucket.pause_s(now)) if turn < UNLIMITED else UNLIMITED

    def _refreshed(self, now: float) -> Plan:
        if now >= self._plan.until:
            self._replan(now)
        return self._plan

    def _replan(self, now: float) -> None:
        self._plan = self._make_plan()
        self._bucket.set_rate(self._plan.rate, now)


class Throttle:
    """The three lanes of one agent, and the breath of who works for them. Until the first settings
    are known nothing moves."""

    def __init__(
        self,
        spec: SyncSpec | None = None,
        *,
        clock: Clock | None = None,
        streams: int | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._zone = ZoneInfo("UTC")
        self._spec: SyncSpec | None = None
        self._courtesy = UNLIMITED
        self.breath = Breath()
        if spec is not None:
            self._spec, self._zone = check_spec(spec), _zone(spec.time_zone)
        most = streams or usual_streams()
        self.origin = Lane(self._origin_plan, self._clock, streams=most)
        self.peers = Lane(self._peer_plan, self._clock, streams=most)
        self.upload = Lane(self._peer_plan, self._clock)

    def __repr__(self) -> str:
        return f"Throttle(origin={self.origin}, peers={self.peers}, upload={self.upload})"

    def settings_changed(self, spec: SyncSpec) -> None:
        """Follow new settings from the next permit on; raises Invalid, and keeps the old ones."""
        zone = _zone(spec.time_zone)
        self._spec, self._zone = check_spec(spec), zone
        for lane in (self.origin, self.peers, self.upload):
            lane.replan()

    def step_back(self, rate: float) -> None:
        """Let no lane move more than `rate` bytes/s from now on: inference goes first."""
        if rate != self._courtesy:
            self._courtesy = rate
            self.breath.needed = rate != UNLIMITED
            for lane in (self.origin, self.peers, self.upload):
                lane.replan()

    def waiting(self, urgency: Urgency) -> str:
        """Return in words why nothing of this urgency is taken from the origin; "" if it may be."""
        if self._spec is None:
            return "waits to be told how fast it may fetch"
        now = self._clock.utc()
        allowed = rate_at(self._spec, now, self._zone, urgency)
        if allowed.rate != CLOSED:
            return ""
        if allowed.until is None:
            return "waits for a window of time in which it may fetch; none is near"
        opens = allowed.until.astimezone(self._zone)
        return f"waits for its window, which opens {opens:%a %H:%M} {self._spec.time_zone}"

    def _origin_plan(self) -> Plan:
        mono, now = self._clock.monotonic_s(), self._clock.utc()
        if (spec := self._spec) is None:
            return Plan(CLOSED, frozenset(Urgency), mono + RECHECK_S)
        allowed = {urgency: rate_at(spec, now, self._zone, urgency) for urgency in Urgency}
        closed = frozenset(u for u, allowance in allowed.items() if allowance.rate == CLOSED)
        rate = max(allowance.rate for allowance in allowed.values())
        rate = min(rate, self._courtesy)
        changes = [a.until for a in allowed.values() if a.until is not None]
        return Plan(rate, closed, mono + _seconds_to(min(changes, default=None), now))

    def _peer_plan(self) -> Plan:
        until = self._clock.monotonic_s() + RECHECK_S
        if self._spec is None:
            return Plan(CLOSED, frozenset(Urgency), until)
        return Plan(min(peer_rate(self._spec), self._courtesy), frozenset(), until)


def usual_streams() -> int:
    """Return how many streams of a lane are good on this machine.

    Each has a thread, and threads of one interpreter that all have bytes to read hinder each other:
    on two cores four of them took three times the CPU that one took for 1 GiB over TLS.
    """
    return max(2, min(MAX_STREAMS, (os.cpu_count() or 1) // 2))


def _seconds_to(moment: datetime | None, now: datetime) -> float:
    if moment is None:
        return RECHECK_S
    return min(RECHECK_S, max(0.0, (moment - now).total_seconds()))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(
            f"{name[:80]!r} is not a time zone that this machine knows.",
            hint="Use an IANA name like Europe/Berlin; the package tzdata brings them all.",
        ) from None
