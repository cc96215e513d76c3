"""Which cluster answers a request: filter, score, pick.

Input: the routing table, what `signals` has learned, the clusters that already failed this
request, and dice. Output: a Decision, the record of the choice: `proxy` sends to `chosen`,
`explain` shows the rest. Endpoints outside the residency of the model or of the caller never get
here: see `RoutingTable.replicas`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from federation.contract.types import Endpoint, Location
from federation.runtime.backoff import Dice
from router.policy.breaker import BreakerState
from router.policy.latency import prior_ms
from router.policy.signals import Seen
from router.policy.table import Resolved, RoutingTable

NEAR_EQUAL_MS = 1.0
NEAR_EQUAL_SHARE = 0.1


class View(Protocol):
    """What is known of the clusters; `Signals` is one."""

    def look(self, cluster: str, model: str, version: int, now_s: float) -> Seen:
        """Return how a cluster looks to a request for this model version."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One choice to be made. `regions` are where the caller's requests must stay (empty =
    anywhere); `origin` is where distances are guessed from until measured."""

    resolved: Resolved
    now_s: float
    failed: Collection[str] = ()
    regions: Collection[str] = ()
    origin: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One cluster as it was weighed; `excluded` tells in words why it was out, "" if it was in."""

    cluster: str
    region: str
    url: str
    rtt_ms: float
    measured: bool
    in_flight: float
    service_ms: float
    state: BreakerState
    present: bool
    avoid: str = ""
    excluded: str = ""

    @property
    def score_ms(self) -> float:
        """The expected time until the first byte: the way, those before us, and ourselves."""
        return self.rtt_ms + (self.in_flight + 1.0) * self.service_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The record of a choice. `desperate`: all that was left had a reason to be avoided."""

    model: str
    version: int
    chosen: Candidate | None
    candidates: tuple[Candidate, ...]
    desperate: bool = False
    regions: tuple[str, ...] = ()  # where it had to stay; empty = anywhere

    @property
    def why(self) -> str:
        """One sentence on the choice."""
        chosen, left = self.chosen, [c for c in self.candidates if not c.excluded]
        if chosen is None:
            return _why_none(self)
        how = "measured" if chosen.measured else "guessed from the distance"
        if self.desperate:
            return (
                f"Every candidate has a reason to be avoided, so {chosen.cluster} is tried "
                f"although: {chosen.avoid}."
            )
        if len(left) == 1:
            return f"{chosen.cluster} is the only candidate left."
        least = min(left, key=lambda c: c.score_ms)
        compared = "the least" if chosen == least else f"near the least, of {least.cluster},"
        return (
            f"{chosen.cluster} has {compared} expected time to the first byte of {len(left)} "
            f"candidates: {chosen.score_ms:.1f} ms (round trip {chosen.rtt_ms:.1f} ms, {how}; "
            f"{chosen.in_flight:.0f} in flight, {chosen.service_ms:.1f} ms each)."
        )


def _why_none(decision: Decision) -> str:
    what = f"version {decision.version} of {decision.model!r}"
    if not decision.candidates and decision.regions:
        where = ", ".join(decision.regions)
        return f"No cluster in {where}, where requests with this key must stay, has {what} warm."
    if not decision.candidates:
        return f"No cluster that may serve {what} has it warm."
    return f"Every cluster that serves {what} has failed this request."


def decide(table: RoutingTable, view: View, question: Question, dice: Dice) -> Decision:
    """Choose a cluster; the same arguments always give the same decision."""
    resolved = question.resolved
    model, version = resolved.route.name, resolved.version
    weighed = [
        _weigh(endpoint, view.look(endpoint.cluster, model, version, question.now_s), question)
        for endpoint in table.replicas(model, version, question.regions)
    ]
    left = [c for c in weighed if c.cluster not in question.failed]
    tier = _best_tier(left)
    chosen = _choose(tier, dice) if tier else None
    kept = {c.cluster for c in tier}
    return Decision(
        model=model,
        version=version,
        chosen=chosen,
        candidates=tuple(
            c if c.cluster in kept else replace(c, excluded=_excluded(c, question)) for c in weighed
        ),
        desperate=bool(chosen and chosen.avoid),
        regions=tuple(sorted(question.regions)),
    )


def _weigh(endpoint: Endpoint, seen: Seen, question: Question) -> Candidate:
    measured = seen.rtt_ms is not None
    guess = 0.0 if measured else prior_ms(question.origin, endpoint.location)
    return Candidate(
        cluster=endpoint.cluster,
        region=endpoint.region,
        url=endpoint.url,
        rtt_ms=guess if seen.rtt_ms is None else seen.rtt_ms,
        measured=measured,
        in_flight=seen.in_flight,
        service_ms=seen.service_ms,
        state=seen.state,
        present=endpoint.present,
        avoid=seen.avoid,
    )


def _best_tier(left: Sequence[Candidate]) -> list[Candidate]:
    """Sound before avoided, and within each, present before absent; the first that is not empty."""
    tiers: dict[tuple[bool, bool], list[Candidate]] = {}
    for candidate in left:
        tiers.setdefault((bool(candidate.avoid), not candidate.present), []).append(candidate)
    return tiers[min(tiers)] if tiers else []


def _excluded(candidate: Candidate, question: Question) -> str:
    if candidate.cluster in question.failed:
        return "it already failed this request"
    return candidate.avoid or "the control plane lost contact with it"


def _choose(tier: Sequence[Candidate], dice: Dice) -> Candidate:
    """The least score; among near equals the less loaded of two at random, so that many routers
    with the same view do not all choose the same one."""
    least = min(c.score_ms for c in tier)
    near = [c for c in tier if c.score_ms <= least + max(NEAR_EQUAL_MS, NEAR_EQUAL_SHARE * least)]
    if len(near) == 1:
        return near[0]
    first = int(dice.random() * len(near)) % len(near)
    second = (first + 1 + int(dice.random() * (len(near) - 1))) % len(near)
    return min(near[first], near[second], key=lambda c: (c.in_flight, c.score_ms, c.cluster))
