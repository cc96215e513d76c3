"""What this router has learned of each cluster: distance, service times, load, breaker.

Input: attempts that `proxy` begins and ends, probes from `probe`. Output: what `pick` looks at. A
count goes up in `begin` and down in Attempt.end, which may be called more than once, counts once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from router.policy.breaker import Breaker, BreakerState
from router.policy.latency import RoundTrip, ServiceTime

LOAD_FADES_S = 2.0
HOLD_S = {"saturated": 0.2}
HOLD_OTHERWISE_S = 1.0


class Ending(StrEnum):
    """What an attempt showed of its cluster."""

    ANSWERED = "answered"  # the model answered, with whatever status
    REFUSED = "refused"  # its gateway says that this model version cannot be served now
    UNREACHABLE = "unreachable"  # no connection: nothing was executed
    BROKEN = "broken"  # it broke off, or the gateway failed, before the first byte of an answer
    ABANDONED = "abandoned"  # the client left, or it was given up: shows nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How one cluster looks now to a request for one model version."""

    rtt_ms: float | None
    in_flight: float
    service_ms: float
    state: BreakerState
    avoid: str = ""  # why it is picked only when nothing else is left


@dataclass(slots=True)
class _Version:
    """What is known of one model version at one cluster."""

    own: int = 0  # sent by this router and not ended
    others: float = 0.0  # what the gateway reported beyond our own, `others_at_s`
    others_at_s: float = 0.0
    service: ServiceTime = field(default_factory=ServiceTime)
    held_until_s: float = 0.0
    held_because: str = ""

    def in_flight(self, now_s: float) -> float:
        fresh = max(0.0, 1.0 - (now_s - self.others_at_s) / LOAD_FADES_S)
        return self.own + self.others * fresh


@dataclass(slots=True)
class _Cluster:
    url: str
    rtt: RoundTrip = field(default_factory=RoundTrip)
    breaker: Breaker = field(default_factory=Breaker)
    versions: dict[tuple[str, int], _Version] = field(default_factory=dict)


class Attempt:
    """One request on its way to one cluster. Made by Signals.begin; must be ended."""

    def __init__(self, cluster: _Cluster, version: _Version, now_s: float) -> None:
        self._cluster = cluster
        self._version = version
        self._trial = cluster.breaker.begin(now_s)
        self._judged = False
        self._open = True
        version.own += 1
        self.in_flight = version.in_flight(now_s)

    def first_byte(self, waited_ms: float, load: int | None, now_s: float) -> None:
        """The answer's head arrived; `load` is what the gateway says is in flight there."""
        service_ms = waited_ms - (self._cluster.rtt.ms or 0.0)
        self._version.service.observe(service_ms, round(self.in_flight), now_s)
        if load is not None:
            self._version.others = max(0.0, load - self._version.own)
            self._version.others_at_s = now_s
        self._judge(Ending.ANSWERED, "", now_s)

    def end(self, ending: Ending, reason: str, now_s: float) -> None:
        """The attempt is over; a second call changes nothing."""
        if self._open:
            self._open = False
            self._version.own -= 1
            self._judge(ending, reason, now_s)

    def _judge(self, ending: Ending, reason: str, now_s: float) -> None:
        """Tell the breaker once; what comes after the first byte shows nothing more."""
        if self._judged:
            return
        self._judged = True
        breaker = self._cluster.breaker
        match ending:
            case Ending.ANSWERED:
                breaker.succeeded(self._trial)
            case Ending.REFUSED:
                self._version.held_until_s = now_s + HOLD_S.get(reason, HOLD_OTHERWISE_S)
                self._version.held_because = reason
                breaker.abandoned(self._trial)
            case Ending.UNREACHABLE | Ending.BROKEN:
                breaker.failed(self._trial, reason, now_s)
            case Ending.ABANDONED:
                breaker.abandoned(self._trial)


class Signals:
    """All that is known of all clusters; one object for a router's life."""

    def __init__(self) -> None:
        self._clusters: dict[str, _Cluster] = {}

    def __repr__(self) -> str:
        states = {name: str(c.breaker.state) for name, c in sorted(self._clusters.items())}
        return f"Signals({states})"

    def retain(self, urls: Mapping[str, str]) -> None:
        """Forget clusters that are gone or moved to another URL, and welcome new ones."""
        self._clusters = {
            name: known
            if (known := self._clusters.get(name)) is not None and known.url == url
            else _Cluster(url)
            for name, url in urls.items()
        }

    def begin(self, cluster: str, model: str, version: int, now_s: float) -> Attempt:
        """Count a request that is about to be sent."""
        known = self._cluster(cluster)
        held = known.versions.get((model, version))
        if held is None:
            held = known.versions[model, version] = _Version()
        return Attempt(known, held, now_s)

    def probed(self, cluster: str, rtt_ms: float | None, problem: str, now_s: float) -> bool:
        """Take in a probe; return whether it has just ejected the cluster."""
        known = self._cluster(cluster)
        before = known.breaker.state
        if rtt_ms is not None:
            known.rtt.observe(rtt_ms)
        known.breaker.probed(problem, now_s)
        return known.breaker.state is BreakerState.OPEN and before is not BreakerState.OPEN

    def look(self, cluster: str, model: str, version: int, now_s: float) -> Seen:
        """Return how a cluster looks to a request for this model version."""
        known = self._cluster(cluster)
        held = known.versions.get((model, version)) or _Version()
        return Seen(
            rtt_ms=known.rtt.ms,
            in_flight=held.in_flight(now_s),
            service_ms=held.service.expected_ms(now_s),
            state=known.breaker.look(now_s),
            avoid=_avoid(known.breaker, held, now_s),
        )

    def health(self, cluster: str, now_s: float) -> tuple[BreakerState, float | None, str]:
        """Return a cluster's breaker state, its round-trip time in ms, and why it is not closed."""
        known = self._cluster(cluster)
        return known.breaker.look(now_s), known.rtt.ms, known.breaker.reason

    def in_flight(self, cluster: str) -> int:
        """Return how many requests of this router are on their way to a cluster."""
        return sum(version.own for version in self._cluster(cluster).versions.values())

    def _cluster(self, name: str) -> _Cluster:
        known = self._clusters.get(name)
        if known is None:
            known = self._clusters[name] = _Cluster("")
        return known


def _avoid(breaker: Breaker, held: _Version, now_s: float) -> str:
    if breaker.state is BreakerState.OPEN:
        return f"ejected: {breaker.reason}"
    if breaker.trial_running:
        return "another request is trying it out"
    if now_s < held.held_until_s:
        return f"it just refused this model version: {held.held_because}"
    return ""
