"""Which router a client had better ask, estimated from places and from what this router measured.

Input: the routers of the snapshot, the client's place, and what is known here of the clusters that
serve a model. Output: an Estimate for each router, and whether one of them is clearly better.

A router's time is a round trip from the client to it, and from there the least of round trip, wait
and service at a cluster. What was measured counts; the rest is guessed from distances, on the line
that `latency.prior_ms` has, times how this router's own measurements lie beside that line.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from federation.contract.types import Location, RouterSite
from router.policy.latency import prior_ms
from router.policy.shortlist import Option

CLEARLY_MS = 20.0  # a router is told only if it saves so much,
CLEARLY_SHARE = 0.25  # and this share of the way by the router that was asked;
STILL = 0.5  # one that was told stays told down to this part of both
_FEW = 3  # measured clusters, before distances are scaled by them
_LEAST_SCALE, _MOST_SCALE = 0.5, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """The cluster of one place that would answer soonest: `rtt_ms` is from the router that asks,
    `answer_ms` what comes on top, wait and service."""

    cluster: str
    location: Location | None
    rtt_ms: float
    measured: bool
    answer_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """From one router on: the cluster that it would choose, as far as can be told from here."""

    site: RouterSite
    cluster: str = ""
    rtt_ms: float = 0.0
    measured: bool = False
    answer_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What to expect of one router, in milliseconds; `client_ms` None = nobody can tell."""

    leg: Leg
    client_ms: float | None

    @property
    def name(self) -> str:
        """The router's name."""
        return self.leg.site.name

    @property
    def way_ms(self) -> float | None:
        """Both round trips."""
        return None if self.client_ms is None else self.client_ms + self.leg.rtt_ms

    @property
    def expected_ms(self) -> float | None:
        """The time to the first byte of an answer, on a connection that is open."""
        return None if self.way_ms is None else self.way_ms + self.leg.answer_ms

    @property
    def why(self) -> str:
        """One sentence."""
        if self.client_ms is None:
            return "The place of the client or of this router is not known."
        leg = self.leg
        client = f"{self.client_ms:.0f} ms from the client, guessed from the distance"
        if not leg.cluster:
            return f"About {client}."
        how = "measured" if leg.measured else "guessed from the distance"
        return (
            f"About {client}; then {leg.rtt_ms:.0f} ms to {leg.cluster}, {how}, which takes "
            f"{leg.answer_ms:.0f} ms."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A router that is clearly better than the one that was asked."""

    site: RouterSite
    gain_ms: float


def reachable(sites: Iterable[RouterSite], here: str) -> tuple[RouterSite, ...]:
    """Return the routers to which a client may be told to go, and this one.

    One that gives out an address of its own machine is nowhere for anybody else, unless this router
    does so too: then all are on one machine.
    """
    known = tuple(sites)
    own = next((site for site in known if site.name == here), None)
    local = own is not None and _is_local(_host(own.url))
    hosts = {site.name: _host(site.url) for site in known}
    return tuple(
        s for s in known if s is own or (hosts[s.name] and _is_local(hosts[s.name]) <= local)
    )


def _host(url: str) -> str:
    """Return the host of a URL, "" if it cannot stand in a header as it is: what routers say of
    themselves is not trusted."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return ""
    plain = url.isascii() and url.isprintable() and not set(url) & set('<>"\\ ')
    return host if plain and parts.scheme in ("http", "https") and not parts.query else ""


def _is_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def spots(options: Iterable[Option], now_s: float) -> list[Spot]:
    """Return the best cluster of each place, of those that may be chosen now."""
    best: dict[Location | None, tuple[float, float, Option]] = {}
    for option in options:
        if option.why or option.lane.held_until_s > now_s:
            continue
        cost_ms = option.lane.cost_ms(now_s)
        place, all_ms = option.endpoint.location, option.rtt_ms + cost_ms
        if place not in best or all_ms < best[place][0]:
            best[place] = all_ms, cost_ms, option
    return [
        Spot(
            cluster=option.cluster,
            location=place,
            rtt_ms=option.rtt_ms,
            measured=option.measured,
            answer_ms=cost_ms,
        )
        for place, (_, cost_ms, option) in best.items()
    ]


def scale_of(own: Location | None, seen: Iterable[tuple[Location | None, float]]) -> float:
    """Return how much longer round trips are than their distances say: the middle of those that
    this router measured."""
    if own is None:
        return 1.0
    times = sorted(rtt_ms / prior_ms(own, place) for place, rtt_ms in seen if place is not None)
    if len(times) < _FEW:
        return 1.0
    return min(max(times[(len(times) - 1) // 2], _LEAST_SCALE), _MOST_SCALE)


def legs(
    sites: Sequence[RouterSite], here: str, places: Sequence[Spot], scale: float
) -> tuple[Leg, ...]:
    """Return what to expect from each router on; without `places`, nothing but the routers."""
    return tuple(_leg(site, places, scale, own=site.name == here) for site in sites)


def _leg(site: RouterSite, places: Sequence[Spot], scale: float, *, own: bool) -> Leg:
    ways = [(s.rtt_ms if own else scale * prior_ms(site.location, s.location), s) for s in places]
    if not ways:
        return Leg(site=site)
    rtt_ms, spot = min(ways, key=lambda way: way[0] + way[1].answer_ms)
    return Leg(
        site=site,
        cluster=spot.cluster,
        rtt_ms=rtt_ms,
        measured=own and spot.measured,
        answer_ms=spot.answer_ms,
    )


def estimates(client: Location | None, onward: Iterable[Leg], scale: float) -> list[Estimate]:
    """Return what to expect of each router, the best first, those of which nobody can tell last."""
    found = [Estimate(leg=leg, client_ms=_client_ms(client, leg.site, scale)) for leg in onward]
    never = float("inf")
    return sorted(found, key=lambda e: (never if (ms := e.expected_ms) is None else ms, e.name))


def _client_ms(client: Location | None, site: RouterSite, scale: float) -> float | None:
    if client is None or site.location is None:
        return None
    return scale * prior_ms(client, site.location)


def advise(found: Sequence[Estimate], here: str, told: str = "") -> Advice | None:
    """Return the router that is clearly better than the one that was asked, if there is one; `told`
    is the one that was told before."""
    by_name: Mapping[str, Estimate] = {e.name: e for e in found}
    asked = by_name.get(here)
    best = found[0] if found else None
    if asked is None or best is None or asked is best:
        return None
    if asked.expected_ms is None or asked.way_ms is None or best.expected_ms is None:
        return None
    gain_ms = asked.expected_ms - best.expected_ms
    share = STILL if best.name == told else 1.0
    if gain_ms < share * CLEARLY_MS or gain_ms < share * CLEARLY_SHARE * asked.way_ms:
        return None
    return Advice(site=best.leg.site, gain_ms=gain_ms)
