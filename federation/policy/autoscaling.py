"""How many replicas the load of a version asks for at one cluster. Pure.

Input: how busy the version is there and what it can do, look by look, each with its time. Output: a
Scale, which says how many replicas are asked for; `placement` gives those that have room.

Work is told in replicas: 2.4 means that 2.4 replicas would be busy all the time. From it follow two
numbers, the replicas that suffice at the target, and those down to which it may go (a tenth of the
target is kept free, so that it does not come and go at a border). More are asked for once they
were needed in all of the window `up_s`, fewer once they sufficed in all of `down_s`, so for the
most that any look in it asked for. Without looks nothing changes, and the windows begin anew.
Where the engine tells its queue and that stays, more are asked for at once.

    work / target          up_s over?   down_s over?   asked for
    more than there is     yes          -              the fewest that a look in up_s asked for
    more than there is     no           -              as before
    about what there is    -            -              as before
    less than there is     -            no             as before
    less than there is     -            yes            the most that a look in down_s asked for
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from federation.contract.capacity import Calibration
from federation.contract.scaling import MAX_REPLICAS, Scaling

_SLACK = 0.9  # of the target: fewer replicas must not be busier than this
_EXACT = 1e-9  # what rounding may add
_MOST = 2.0  # as often as what the replicas can do a queue is believed

Samples = tuple[tuple[datetime, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy the replicas of a version are together, and what they can do together.

    `rate` in requests a second, `latency_ms` their median; both of those that ended lately.
    `queued` requests wait inside the engine; None = nobody can tell.
    """

    replicas: int
    in_flight: int = 0
    rate: float = 0.0
    latency_ms: float = 0.0
    queued: int | None = None
    calibration: Calibration | None = None

    @property
    def rounds(self) -> float:
        """How many times what the replicas do at once waits in the engine; 0 if nobody can tell."""
        at_once = self.calibration.concurrency if self.calibration else 1
        return (self.queued or 0) / max(at_once * max(self.replicas, 1), 1)


def work_of(load: Load) -> float:
    """Return how many replicas' worth of work it is.

    Of what was not measured, a replica is believed to do one request at a time. Where throughput
    was measured, requests in flight count only if they are more than it takes to reach it: those
    beyond wait. A queue tells that there is too much work, not how much: at most twice what the
    replicas can do.
    """
    busy = load.rate * load.latency_ms / 1000
    in_flight = max(float(load.in_flight), busy, float(load.queued or 0))
    measured, replicas = load.calibration, max(load.replicas, 1)
    if measured is None or measured.concurrency < 1:
        return min(in_flight, _MOST * replicas)
    full = min(in_flight / measured.concurrency, _MOST)
    if measured.unit != "inferences" or measured.per_second <= 0:
        return full * replicas
    return max(load.rate / measured.per_second, full if full > 1 else 0.0) * replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What the load asked for, until now. `since` is the first look of an unbroken row.

    `ups` and `downs` hold what of the windows can still matter: the fewest replicas that were
    needed, and the most that could not be done without. `rounds` is the queue at the last look.
    """

    asked: int
    work: float
    since: datetime
    ups: Samples = ()
    downs: Samples = ()
    rounds: float = 0.0


def follow(
    scale: Scale | None,
    work: float,
    *,
    there: int,
    limits: Scaling,
    now: datetime,
    rounds: float = 0.0,
) -> Scale:
    """Return the Scale after another look. `there` replicas count as asked for at the first one.

    `rounds` is the Load's. Where a whole round waits, and no less than at the look before, it is no
    peak: the window is not waited for.
    """
    if scale is None or now < (scale.downs[-1][0] if scale.downs else scale.since):
        scale = Scale(asked=there, work=work, since=now)  # it is new, or the clock was set back
    up = _needed(work, limits.target, limits)
    down = _needed(work, limits.target * _SLACK, limits)
    up_window, down_window = (timedelta(seconds=s) for s in (limits.up_s, limits.down_s))
    ups = _kept(scale.ups, now, up, up_window, lambda old, new: old < new)
    downs = _kept(scale.downs, now, down, down_window, lambda old, new: old > new)
    asked = limits.within(scale.asked)
    if now - scale.since >= up_window:
        asked = max(asked, ups[0][1])
    if now - scale.since >= down_window:
        asked = min(asked, downs[0][1])
    if rounds >= scale.rounds >= 1:
        asked = max(asked, up)
    return Scale(asked=asked, work=work, since=scale.since, ups=ups, downs=downs, rounds=rounds)


def _needed(work: float, target: float, limits: Scaling) -> int:
    share = min(work / target, float(MAX_REPLICAS)) if work > 0 else 0.0
    return limits.within(math.ceil(share - _EXACT))


def _kept(
    samples: Samples,
    now: datetime,
    value: int,
    window: timedelta,
    matters: Callable[[int, int], bool],
) -> Samples:
    """Return the samples of the window that may still become its extreme; the first one is it."""
    fresh = [each for each in samples if each[0] >= now - window and matters(each[1], value)]
    return (*fresh, (now, value))
