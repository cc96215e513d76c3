"""A choice as a record: what was asked, what was chosen, and why, in words.

Input: `pick` makes it. Output: `proxy` sends to `chosen`; `explain` shows the rest, which is worked
out only when somebody asks.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from federation.contract.types import Location
from router.policy.affinity import bonuses
from router.policy.breaker import BreakerState
from router.policy.shortlist import PREFER_MS, Option, Shortlist
from router.policy.signals import avoid
from router.policy.table import Resolved


class Reason(StrEnum):
    """Why it was this cluster, for the counters."""

    ONLY = "only"  # nothing else was left
    NEAREST = "nearest"
    SPILLED = "spilled"  # a nearer one would have taken longer
    AFFINITY = "affinity"  # it has seen the session or the prefix before
    PANIC = "panic"  # too few are healthy to believe it
    DESPERATE = "desperate"  # all that was left had a reason to be avoided
    FULL = "full"  # everything is full: none
    NONE = "none"


@dataclass(slots=True, kw_only=True)  # not frozen: that would cost a microsecond more
class Question:
    """One choice to be made. `regions` are where the caller's requests must stay (empty =
    anywhere); `origin` is where distances are guessed from until measured; `affinity` names what
    requests have in common that would better be answered by the same cluster; `careful`: `pick`
    found none among the best."""

    resolved: Resolved
    now_s: float
    failed: Collection[str] = ()
    regions: Collection[str] = ()
    origin: Location | None = None
    affinity: Sequence[int] = ()
    careful: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One cluster as it was weighed; `excluded` tells in words why it was out, "" if it was in."""

    cluster: str
    version: int
    region: str
    url: str
    rtt_ms: float
    measured: bool
    in_flight: float
    concurrency: float
    wait_ms: float
    service_ms: float
    other_ms: float  # preference and affinity
    score_ms: float
    state: BreakerState
    present: bool
    excluded: str = ""


class Decision:
    """A choice, and what is needed to explain it. `regions`: where it had to stay."""

    __slots__ = ("_question", "_short", "chosen", "reason", "score_ms", "scored")

    def __init__(
        self,
        short: Shortlist,
        question: Question,
        chosen: Option | None,
        reason: Reason,
        score_ms: float = 0.0,
    ) -> None:
        self._short = short
        self._question = question
        self.chosen = chosen
        self.reason = reason
        self.score_ms = score_ms
        self.scored: Sequence[tuple[float, Option]] = ()  # what it was chosen among

    def __repr__(self) -> str:
        return f"Decision({self.chosen}, {self.reason})"

    @property
    def regions(self) -> Collection[str]:
        """Where it had to stay; empty = anywhere."""
        return self._question.regions

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return self._question.resolved.route.name

    @property
    def version(self) -> int:
        """The version that answers; the stable one where nothing does."""
        return self.chosen.version if self.chosen else self._question.resolved.version

    @property
    def resolved(self) -> Resolved:
        """What was asked for, with the version that answers."""
        resolved = self._question.resolved
        if resolved.split is None or self.version == resolved.version:
            return resolved
        return replace(resolved, version=self.version)

    @property
    def desperate(self) -> bool:
        """Whether all that was left had a reason to be avoided."""
        return self.reason is Reason.DESPERATE

    def candidates(self) -> list[Candidate]:
        """Return all clusters as they look to this request."""
        options, question = self._short.options, self._question
        bonus = bonuses(options, question.affinity)
        return [weighed(o, question, self.chosen, bonus.get(o, 0.0)) for o in options]

    @property
    def why(self) -> str:
        """One sentence on the choice."""
        if self.chosen is None:
            return self._why_none()
        name, among = self.chosen.cluster, self.candidates()
        chosen = next(c for c in among if c.cluster == name)
        left = [c for c in among if not c.excluded]
        if self.desperate:
            return (
                f"Every candidate has a reason to be avoided, so {name} is tried although: "
                f"{avoid(self.chosen.lane, self._question.now_s) or 'the rest failed'}."
            )
        if len(left) == 1:
            return f"{name} is the only candidate left."
        least = min(left, key=lambda c: c.score_ms)
        compared = "the least" if chosen == least else f"near the least, of {least.cluster},"
        how = "measured" if chosen.measured else "guessed from the distance"
        extra = f", {chosen.other_ms:+.1f} ms for {self.reason}" if chosen.other_ms else ""
        return (
            f"{name} has {compared} expected time to the first byte of {len(left)} candidates: "
            f"{chosen.score_ms:.1f} ms (round trip {chosen.rtt_ms:.1f} ms, {how}; wait "
            f"{chosen.wait_ms:.1f} ms, {chosen.in_flight:.0f} in flight of "
            f"{chosen.concurrency:.0f} at once; service {chosen.service_ms:.1f} ms{extra})."
        )

    def _why_none(self) -> str:
        what = f"version {self.version} of {self.model!r}"
        if self.reason is Reason.FULL:
            return f"Every cluster that serves {what} has as many requests as it takes."
        if not self._short.options and self.regions:
            where = ", ".join(sorted(self.regions))
            return (
                f"No cluster in {where}, where requests with this key must stay, has {what} warm."
            )
        if not self._short.options:
            return f"No cluster that may serve {what} has it warm."
        return f"Every cluster that serves {what} has failed this request."


def weighed(
    option: Option, question: Question, chosen: Option | None, bonus: float = 0.0
) -> Candidate:
    """Return an option as it looks to a request."""
    lane, now_s = option.lane, question.now_s
    out = option.why
    if option.cluster in question.failed:
        out = "it already failed this request"
    elif lane.held_until_s > now_s:
        out = avoid(lane, now_s)
    elif not out and lane.in_flight(now_s) >= lane.limit:
        out = f"it has the {lane.limit:.0f} requests that it takes"
    other = PREFER_MS * option.rank - bonus
    cost = lane.cost_ms(now_s)
    state = lane.place.breaker.state
    return Candidate(
        cluster=option.cluster,
        version=option.version,
        region=option.region,
        url=option.url,
        rtt_ms=option.rtt_ms,
        measured=option.measured,
        in_flight=lane.in_flight(now_s),
        concurrency=lane.concurrency,
        wait_ms=cost - lane.service_ms,
        service_ms=lane.service_ms,
        other_ms=other,
        score_ms=option.rtt_ms + cost + other,
        state=lane.breaker.state if state is BreakerState.CLOSED else state,
        present=option.endpoint.present,
        excluded="" if option is chosen else out,
    )
