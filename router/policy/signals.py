"""What this router has learned of each cluster: distance, service times, load, breakers.

Input: attempts that `proxy` begins and ends, probes from `probe`. Output: lanes, which `pick` looks
at. A count goes up in `begin` and down in Attempt.end, which may be called more than once, counts
once.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum

from router.policy.breaker import BreakerState
from router.policy.lanes import Lane, Place
from router.policy.shortlist import Key, Shortlist

HOLD_S = {"saturated": 0.2}
HOLD_OTHERWISE_S = 1.0
SLOW = 4.0  # so many times the typical service time is too slow
SLOW_AT_LEAST_MS = 20.0
FEW = 5  # observations, before a lane is judged by them
QUEUE_DEPTH = 32.0  # times what a cluster does at once is the most that is sent there
FAILING = 0.25  # of its last answers
PARDONED = 0.1  # of its last answers: one that failed is let in only below it
_CLOSED = BreakerState.CLOSED


class Ending(StrEnum):
    """What an attempt showed of its cluster."""

    ANSWERED = "answered"  # the model answered, with whatever status
    REFUSED = "refused"  # its gateway says that this model version cannot be served now
    UNREACHABLE = "unreachable"  # no connection: nothing was executed
    BROKEN = "broken"  # it broke off, or the gateway failed, before the first byte of an answer
    ABANDONED = "abandoned"  # the client left, or it was given up: shows nothing


_ANSWERED = Ending.ANSWERED  # a member's name takes a quarter of a microsecond to look up


class Attempt:
    """One request on its way to one cluster. Made by Signals.begin; must be ended."""

    __slots__ = (
        "_answered_s",
        "_judged",
        "_lane",
        "_lane_trial",
        "_mine_ms",
        "_open",
        "_sent_s",
        "_signals",
        "_trial",
        "in_flight",
    )

    def __init__(self, signals: "Signals", lane: Lane, now_s: float) -> None:
        self._signals = signals
        self._lane = lane
        breaker, own = lane.place.breaker, lane.breaker
        self._trial = 0 if breaker.state is _CLOSED else breaker.begin(now_s)
        self._lane_trial = 0 if own.state is _CLOSED else own.begin(now_s)
        self._judged = False
        self._open = True
        self._sent_s = now_s
        self._answered_s: float | None = None
        self._mine_ms = 0.0
        lane.own += 1
        lane.awaiting += 1
        lane.awaiting_sum_s += now_s
        self.in_flight = lane.in_flight(now_s)
        if self._trial or self._lane_trial:
            signals.stamp += 1

    def first_byte(
        self, waited_ms: float, load: int | None, now_s: float, *, failed: bool = False
    ) -> None:
        """The answer's head arrived; `load` is what the gateway says is in flight there, `failed`
        whether the engine says that it failed."""
        if self._answered_s is not None:
            return
        lane, self._answered_s = self._lane, now_s
        self._awaits_no_more()
        if load is not None:
            lane.told(load, now_s)
        if not failed:
            took_ms = waited_ms - (lane.place.rtt.ms or 0.0)
            self._mine_ms = lane.answered(took_ms if took_ms > 0.0 else 0.0, self.in_flight, now_s)
        if failed or lane.errors:
            lane.judged(failed=failed)
        self._judge(_ANSWERED, "the engine failed" if failed else "", now_s)

    def went_well(self, load: int | None, now_s: float) -> None:
        """A whole, good answer arrived at once: `first_byte` and `end` in one."""
        lane, sent_s = self._lane, self._sent_s
        self._open, self._answered_s = False, now_s
        lane.awaiting -= 1
        lane.awaiting_sum_s = lane.awaiting_sum_s - sent_s if lane.awaiting else 0.0
        if load is not None:
            lane.told(load, now_s)
        took_ms = (now_s - sent_s) * 1000.0 - (lane.place.rtt.ms or 0.0)
        mine_ms = lane.answered(took_ms if took_ms > 0.0 else 0.0, self.in_flight, now_s)
        self._mine_ms = mine_ms
        if lane.errors:
            lane.judged(failed=False)
        if self._trial or self._lane_trial:
            self._judge(_ANSWERED, "", now_s)
        else:
            self._judged = True
            lane.place.breaker.went_well()
            lane.breaker.went_well()
        own = lane.own = lane.own - 1
        if lane.own_then > own:
            lane.own_then = own
        if mine_ms:
            lane.occupied(mine_ms, now_s)

    def overloaded(self, now_s: float) -> None:
        """The answer was that there is too much to do: nothing more is sent there for a moment."""
        self._lane.held_until_s = now_s + HOLD_S["saturated"]
        self._lane.held_because = "saturated"

    def outrun(self, now_s: float) -> None:
        """Another cluster answered the same request first: this one takes at least so long."""
        lane = self._lane
        if self._answered_s is not None or not self._open:
            return
        took_ms = (now_s - self._sent_s) * 1000.0 - (lane.place.rtt.ms or 0.0)
        beyond = max(self.in_flight - lane.concurrency, 0.0)
        if took_ms > lane.service_ms + lane.hold_ms * beyond / lane.concurrency:
            lane.answered(took_ms, self.in_flight, now_s)
        if self._trial or self._lane_trial:
            self._judge(Ending.BROKEN, "another cluster answered its trial first", now_s)

    def end(self, ending: Ending, reason: str, now_s: float) -> None:
        """The attempt is over; a second call changes nothing."""
        if not self._open:
            return
        self._open = False
        lane = self._lane
        lane.own -= 1
        if lane.own_then > lane.own:
            lane.own_then = lane.own
        if self._answered_s is None:
            self._answered_s = now_s  # what comes later is no answer
            self._awaits_no_more()
            if ending in (Ending.BROKEN, Ending.UNREACHABLE):
                lane.judged(failed=True)
        elif self._mine_ms:
            lane.occupied(self._mine_ms + (now_s - self._answered_s) * 1000.0, now_s)
        if not self._judged:
            self._judge(ending, reason, now_s)

    def _awaits_no_more(self) -> None:
        lane = self._lane
        lane.awaiting -= 1
        lane.awaiting_sum_s = lane.awaiting_sum_s - self._sent_s if lane.awaiting else 0.0

    def _judge(self, ending: Ending, reason: str, now_s: float) -> None:
        """Tell the breakers once; what comes after the first byte shows nothing more."""
        if self._judged:
            return
        self._judged = True
        lane, breaker = self._lane, self._lane.place.breaker
        if ending is _ANSWERED and not (reason or self._trial or self._lane_trial):
            breaker.went_well()  # as nearly always
            lane.breaker.went_well()
            return
        before = breaker.state, lane.breaker.state
        match ending:
            case Ending.ANSWERED:
                breaker.succeeded(self._trial, now_s)
                self._judge_lane(reason, now_s)
            case Ending.REFUSED:
                lane.held_until_s = now_s + HOLD_S.get(reason, HOLD_OTHERWISE_S)
                lane.held_because = reason
                breaker.abandoned(self._trial)
                lane.breaker.abandoned(self._lane_trial)
            case Ending.UNREACHABLE | Ending.BROKEN:
                hard = ending is Ending.UNREACHABLE
                breaker.failed(self._trial, reason, now_s, hard=hard)
                lane.breaker.failed(self._lane_trial, reason, now_s)
            case Ending.ABANDONED:
                breaker.abandoned(self._trial)
                lane.breaker.abandoned(self._lane_trial)
        after = breaker.state, lane.breaker.state
        if self._trial or self._lane_trial or after != before:
            self._signals.changed(lane, before, after, now_s)

    def _judge_lane(self, reason: str, now_s: float) -> None:
        """A trial of a lane must be good, and as fast as the others are. One that failed now and
        then has to be good several times: half of its trials would be."""
        lane, trial = self._lane, self._lane_trial
        if not trial:
            lane.breaker.succeeded(0, now_s)
        elif reason:
            lane.breaker.failed(trial, reason, now_s)
        elif not lane.canary and too_slow(self._mine_ms, lane):
            lane.breaker.failed(trial, _slow(self._mine_ms, lane), now_s)
        elif lane.errors > PARDONED:
            lane.breaker.abandoned(trial)  # the next request tries it again
            lane.errors *= 0.8
        else:
            lane.breaker.succeeded(trial, now_s)
            lane.service.forget()
            lane.errors = 0.0


class Signals:
    """All that is known of all clusters; one object for a router's life.

    `seed` makes this router's waits differ from those of the others. `stamp` changes whenever
    somebody is let in or out. `ceilings` are the largest shares of a model's requests that some
    clusters may get; `prefer` are regions in the order in which they are wanted; a cluster gets at
    most `queue_depth` times the requests that it was measured to do at once.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.stamp = 0
        self.ceilings: Mapping[str, float] = {}
        self.prefer: tuple[str, ...] = ()
        self.queue_depth = QUEUE_DEPTH
        self.lists: dict[Key, Shortlist] = {}
        self._places: dict[str, Place] = {}  # made when first asked for: there may be thousands
        self._urls: Mapping[str, str] = {}

    def __repr__(self) -> str:
        states = {name: str(p.breaker.state) for name, p in sorted(self._places.items())}
        return f"Signals({states})"

    def retain(self, urls: Mapping[str, str]) -> None:
        """Forget clusters that are gone or moved to another URL, and welcome new ones."""
        self.stamp += 1
        self.lists.clear()
        self._urls = urls
        self._places = {n: known for n, known in self._places.items() if urls.get(n) == known.url}

    def begin(self, cluster: str, model: str, version: int, now_s: float) -> Attempt:
        """Count a request that is about to be sent."""
        return Attempt(self, self.lane(cluster, model, version), now_s)

    def probed(
        self,
        cluster: str,
        rtt_ms: float | None,
        problem: str,
        now_s: float,
        loads: Mapping[tuple[str, int], int] | None = None,
    ) -> bool:
        """Take in a probe, and the loads that it brought (what is not named has none); return
        whether it has just ejected the cluster."""
        place = self.place(cluster)
        before = place.breaker.state
        if rtt_ms is not None:
            place.rtt.observe(rtt_ms)
        if loads is not None:
            for key, lane in place.lanes.items():
                lane.told(loads.get(key, 0), now_s)
        place.breaker.probed(problem, now_s)
        if place.breaker.state is not before:
            self.stamp += 1
            if before is BreakerState.CLOSED:
                for lane in place.lanes.values():
                    lane.away = True
        return place.breaker.state is BreakerState.OPEN and before is not BreakerState.OPEN

    def changed(
        self,
        lane: Lane,
        before: tuple[BreakerState, BreakerState],
        after: tuple[BreakerState, BreakerState],
        now_s: float,
    ) -> None:
        """Take note that a breaker moved."""
        self.stamp += 1
        if before == (BreakerState.CLOSED, BreakerState.CLOSED):
            lane.away = True
        if after == (BreakerState.CLOSED, BreakerState.CLOSED) and before != after:
            lane.away, lane.back_at_s = False, now_s

    def sweep(self, lanes: Collection[Lane], now_s: float) -> None:
        """Eject what is much slower than its peers, or fails while they do not: at most a third."""
        out = sum(lane.breaker.state is not BreakerState.CLOSED for lane in lanes)
        usual = sorted(lane.errors for lane in lanes)[(len(lanes) - 1) // 2] if lanes else 0.0
        most = len(lanes) // 3 if len(lanes) > 2 else len(lanes) // 2
        for lane in lanes:
            if out >= most:
                return
            if lane.breaker.state is not BreakerState.CLOSED or lane.service.count < FEW:
                continue
            if why := unlike_its_peers(lane, usual):
                lane.breaker.trip(why, now_s)
                lane.away = True
                self.stamp += 1
                out += 1

    def place(self, name: str) -> Place:
        """Return what is known of a cluster."""
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = self._new(name, self._urls.get(name, ""))
        return found

    def lane(self, cluster: str, model: str, version: int) -> Lane:
        """Return what is known of a model version at a cluster."""
        place = self.place(cluster)
        found = place.lanes.get((model, version))
        if found is None:
            found = place.lanes[model, version] = Lane(place)
            found.breaker.seed = place.breaker.seed
        return found

    def health(self, cluster: str, now_s: float) -> tuple[BreakerState, float | None, str]:
        """Return a cluster's breaker state, its round-trip time in ms, and why it is not closed."""
        place = self._places.get(cluster)
        if place is None:
            return _CLOSED, None, ""
        return place.breaker.look(now_s), place.rtt.ms, place.breaker.reason

    def overdue(self, quiet_s: float, now_s: float) -> list[str]:
        """Return the clusters whose answers are overdue, and later than `quiet_s`."""
        return [
            name
            for name, place in self._places.items()
            if any(lane.is_overdue(quiet_s, now_s) for lane in place.lanes.values())
        ]

    def in_flight(self, cluster: str) -> int:
        """Return how many requests of this router are on their way to a cluster."""
        place = self._places.get(cluster)
        return 0 if place is None else sum(lane.own for lane in place.lanes.values())

    def _new(self, name: str, url: str) -> Place:
        place = Place(name, url)
        place.breaker.seed = self.seed
        return place


def avoid(lane: Lane, now_s: float) -> str:
    """Return why a lane is used only when nothing else is left, in words; "" = it is fine."""
    for breaker in (lane.place.breaker, lane.breaker):
        if breaker.look(now_s) is BreakerState.OPEN:
            return f"ejected: {breaker.reason}"
        if breaker.trial_running:
            return "another request is trying it out"
    if now_s < lane.held_until_s:
        return f"it just refused this model version: {lane.held_because}"
    return ""


def too_slow(service_ms: float, lane: Lane) -> bool:
    """Whether a service time is that of a lane in trouble: next to what was measured of it, and to
    its peers. What was measured after warm-up may have been wrong."""
    usual = max(lane.typical_ms, lane.peers_ms)
    return usual > 0.0 and service_ms > max(SLOW * usual, usual + SLOW_AT_LEAST_MS)


def unlike_its_peers(lane: Lane, usual_errors: float) -> str:
    """Return why a lane is to be ejected, "" = it is not."""
    if lane.errors >= max(FAILING, 2.0 * usual_errors):
        return f"{lane.errors:.0%} of its last answers were failures"
    if not lane.canary and too_slow(lane.service.fast, lane):
        return _slow(lane.service.fast, lane)
    return ""


def _slow(service_ms: float, lane: Lane) -> str:
    usual = max(lane.typical_ms, lane.peers_ms, 0.001)
    return f"slow: {service_ms:.0f} ms, {service_ms / usual:.0f} times what is usual"
