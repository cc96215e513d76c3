"""Telling clients of a nearer router: a header, an answer, or a redirect for those that ask for it.

Input: the client's address and the model; the snapshot's routers and what is known of its clusters.
Output: `Link` header lines, kept per place and model for some seconds; the answer to
`GET /v1/nearest`; and Moved, for clients that say that they follow. All is decided in
`policy.steering`. With no other router in the snapshot nothing is looked up at all.

The relation is `alternate`, "a substitute for this context" in the registry of RFC 8288. No
registered one says "preferred"; `duplicate` (RFC 6249) promises the same bytes, and `Alt-Svc`
(RFC 7838) the same certificate. `anchor="/"` names the context, which the answer to a POST has not.
"""

from dataclasses import dataclass
from itertools import islice
from urllib.parse import quote

from multidict import CIMultiDict

from federation.contract.types import Location
from federation.relay.errors import Moved
from federation.relay.http1.messages import Request, Response
from router.geo import Locator
from router.policy import residency, steering
from router.policy.access import Caller
from router.policy.decision import Question
from router.policy.pick import bring_up_to_date, shortlist
from router.policy.steering import Advice, Estimate, Leg, Spot
from router.policy.table import Resolved, RoutingTable
from router.request.call import STEER_HEADER
from router.request.door import Visit
from router.request.responses import json_response
from router.state import RouterState, Steer

STEERED = "fed-steered"  # in the query: it was redirected once, which is enough
LASTS_S = 10.0  # how long an estimate is used again
_MOST = 4096  # places, times models
_PLACES = 1024
_MEASURED = 64  # round trips that the scale of distances is taken from


@dataclass(frozen=True, slots=True)
class _Told:
    """What clients of one place are told of one model, until when."""

    line: bytes
    name: str
    until_s: float


class Steering:
    """What one router tells clients of the others."""

    def __init__(self, *, state: RouterState, locator: Locator) -> None:
        self._state = state
        self._locator = locator
        self._sites = steering.reachable((), state.name)
        self._active = False
        self._places: dict[tuple[str, ...], Location | None] = {}
        self._onward: dict[object, tuple[float, tuple[Leg, ...], float]] = {}
        self._told: dict[object, _Told] = {}
        state.on_swap.append(self._swapped)
        if state.table is not None:
            self._swapped(state.table)

    def __repr__(self) -> str:
        return f"Steering({self._state.steer}, routers={len(self._sites)})"

    def _swapped(self, table: RoutingTable) -> None:
        """Take over the routers of a new table; who was told of whom is remembered."""
        sites = steering.reachable(table.snapshot.routers, self._state.name)
        if sites != self._sites:
            self._told.clear()
        self._sites = sites
        self._onward.clear()
        here = any(s.name == self._state.name and s.location for s in sites)
        others = any(s.name != self._state.name and s.location for s in sites)
        self._active = here and others and self._state.steer is not Steer.OFF

    # ------------------------------------------------------------ the header

    def client(self, remote: str, headers: CIMultiDict[str]) -> Location | None:
        """Return where a client is; None where nobody can be told anyway."""
        return self._place(remote, headers) if self._active else None

    def line(self, client: Location | None, resolved: Resolved, caller: Caller) -> bytes:
        """Return the header line for clients of a place, b"" = no router is clearly better."""
        if client is None or not self._active:
            return b""
        key = (client, resolved.route.name, resolved.version, caller.regions)
        now_s, told = self._state.clock.monotonic_s(), self._told.get(key)
        if told is None or now_s >= told.until_s:
            found = self._estimates(client, resolved, caller, now_s)
            advice = steering.advise(found, self._state.name, told.name if told else "")
            if len(self._told) >= _MOST:
                self._told.clear()
            told = self._told[key] = _Told(
                _line(advice) if advice else b"",
                advice.site.name if advice else "",
                now_s + LASTS_S,
            )
        return told.line

    # ------------------------------------------------------------ the answer

    def nearest(self, visit: Visit, request: Request) -> Response:
        """Answer GET /v1/nearest[?model=M]; raises NotFound or PermissionDenied for the model."""
        table, caller = self._state.require_table(), visit.caller
        resolved = None
        if reference := request.query.get("model", ""):
            caller.check_model(reference)
            resolved = table.resolve(reference, None, caller.may_use)
            residency.check(resolved.route, caller.regions)
        now_s, here = self._state.clock.monotonic_s(), self._state.name
        client = self._place(request.remote, request.headers)
        found = self._estimates(client, resolved, caller, now_s)
        advice = steering.advise(found, here)
        best = advice.site.name if advice else here
        return json_response(
            {
                "object": "list",
                "model": resolved.route.name if resolved else None,
                "version": resolved.version if resolved else None,
                "asked": here,
                "best": best,
                "why": _why(advice, here),
                "data": [_entry(each, here) for each in found],
            }
        )

    # ------------------------------------------------------------ the redirect

    def redirect(self, visit: Visit, request: Request) -> None:
        """Raise Moved if a client that follows is clearly better off elsewhere.

        The path must name the model: a body is not read for this.
        """
        follows = request.headers.get(STEER_HEADER, "").strip().lower() == "redirect"
        wanted = follows and self._state.steer is Steer.REDIRECT and visit.target.model
        if not wanted or STEERED in request.query or not visit.is_inference:
            return
        client = self.client(request.remote, request.headers)
        if client is None:
            return
        table, caller, target = self._state.require_table(), visit.caller, visit.target
        resolved = table.resolve(target.model, target.version, caller.may_use)
        now_s, here = self._state.clock.monotonic_s(), self._state.name
        advice = steering.advise(self._estimates(client, resolved, caller, now_s), here)
        if advice is not None:
            base, mark = advice.site.url.rstrip("/"), f"?{STEERED}={quote(here, safe='')}"
            raise Moved(
                f"Router {advice.site.name} is about {advice.gain_ms:.0f} ms nearer.",
                hint="Send the request there, with your key.",
                location=f"{base}{request.path}{mark}",
            )

    # ------------------------------------------------------------ estimates

    def _place(self, remote: str, headers: CIMultiDict[str]) -> Location | None:
        shown = headers.getall("x-forwarded-for", ())
        key = (remote, *shown)
        if key in self._places:
            return self._places[key]
        place = self._locator.locate(self._locator.client_address(remote, shown))
        if len(self._places) >= _PLACES:
            self._places.clear()
        location = self._places[key] = place.location if place else None
        return location

    def _estimates(
        self, client: Location | None, resolved: Resolved | None, caller: Caller, now_s: float
    ) -> list[Estimate]:
        onward, scale = self._legs(resolved, caller, now_s)
        return steering.estimates(client, onward, scale)

    def _legs(
        self, resolved: Resolved | None, caller: Caller, now_s: float
    ) -> tuple[tuple[Leg, ...], float]:
        """Return the ways on from each router, worked out once for all clients of a model."""
        key = resolved and (resolved.route.name, resolved.version, caller.regions)
        until_s, onward, scale = self._onward.get(key, (now_s, (), 1.0))
        if now_s >= until_s:
            places: list[Spot] = []
            scale = self._scale()
            if resolved is not None:
                places = self._spots(resolved, caller, now_s)
            onward = steering.legs(self._sites, self._state.name, places, scale)
            if len(self._onward) >= _MOST:
                self._onward.clear()
            self._onward[key] = now_s + LASTS_S, onward, scale
        return onward, scale

    def _spots(self, resolved: Resolved, caller: Caller, now_s: float) -> list[Spot]:
        question = Question(
            resolved=resolved, now_s=now_s, regions=caller.regions, origin=self._state.location
        )
        signals = self._state.signals
        short = shortlist(self._state.require_table(), signals, question)
        bring_up_to_date(short, signals, now_s)
        return steering.spots(short.options, now_s)

    def _scale(self) -> float:
        endpoints, signals = self._state.require_table().endpoints, self._state.signals
        seen = (
            (endpoint.location, rtt_ms)
            for name, endpoint in endpoints.items()
            if (rtt_ms := signals.place(name).rtt.ms) is not None
        )
        return steering.scale_of(self._state.location, islice(seen, _MEASURED))


def _line(advice: Advice) -> bytes:
    return (
        f'Link: <{advice.site.url.rstrip("/")}/>; rel="alternate"; anchor="/"; '
        f'title="router {advice.site.name}, about {advice.gain_ms:.0f} ms nearer"\r\n'
    ).encode()


def _why(advice: Advice | None, here: str) -> str:
    if advice is None:
        return f"No router is clearly better than {here}, which was asked."
    return f"{advice.site.name} is about {advice.gain_ms:.0f} ms better than {here}."


def _entry(estimate: Estimate, here: str) -> dict[str, object]:
    leg = estimate.leg
    return {
        "router": estimate.name,
        "url": leg.site.url,
        "asked": estimate.name == here,
        "expected_ms": _rounded(estimate.expected_ms),
        "client_ms": _rounded(estimate.client_ms),
        "cluster": leg.cluster or None,
        "cluster_ms": _rounded(leg.rtt_ms) if leg.cluster else None,
        "measured": leg.measured,
        "answer_ms": _rounded(leg.answer_ms) if leg.cluster else None,
        "why": estimate.why,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
