"""Which cluster and which version answer a request whose model is between two versions.

Input: as `pick`, and the request's Split. Output: a Decision, whose chosen option has the version.
At each cluster one of the two is a candidate: the canary where the client's mark says so and it is
warm, the stable version elsewhere; then one choice among all. Where no canary of a region can be
had the stable version answers there. Residency was looked at before, for both.

A canary is judged, not avoided: it is scored with the service time of the stable version beside it,
so that a slow one gets its share and shows it. Its own queue counts, and so do its failures.
"""

from collections.abc import Collection
from dataclasses import replace

from federation.runtime.backoff import Dice
from router.policy import pick
from router.policy.affinity import bonuses
from router.policy.decision import Candidate, Decision, Question, Reason, weighed
from router.policy.shortlist import Option, Shortlist
from router.policy.signals import Ending, Signals, avoid
from router.policy.split import Split
from router.policy.table import Resolved, RoutingTable

MOST_TRIED = 2  # failures, after which a request gets what is surest


def decide(table: RoutingTable, signals: Signals, question: Question, dice: Dice) -> Decision:
    """Choose a cluster and a version; the same arguments always give the same decision."""
    split = question.resolved.split
    if split is None:
        return pick.decide(table, signals, question, dice)
    if not split.anywhere and not split.failed:
        decision = pick.decide(table, signals, question, dice)
        if decision.reason is not Reason.NONE:
            return decision
    both = Both(table, signals, question, split)
    if split.anywhere and len(split.failed) < MOST_TRIED:
        found = _among(both, both.candidates(split, dice), dice)
        if found is not None:
            return found
    stable = {f.cluster for f in split.failed if f.version != split.canary.version}
    decision = pick.decide(table, signals, replace(question, failed=both.failed), dice)
    if decision.reason is Reason.NONE and stable != both.failed:
        decision = pick.decide(table, signals, replace(question, failed=stable), dice)
    if decision.reason is Reason.NONE:  # then rather the canary, where it has any traffic
        everybody = both.candidates(replace(split, mark=0.0), dice)
        return _among(both, everybody, dice) or decision
    return decision


def _among(both: "Both", options: Collection[Option], dice: Dice) -> "BothDecision | None":
    question = both.question
    bonus = bonuses(list(options), question.affinity) if question.affinity else {}
    scored = [(both.score_ms(o) - bonus.get(o, 0.0), o) for o in options]
    least, rank = min(((score, o.rank) for score, o in scored), default=(0.0, 0))
    chosen = pick.among(scored, least, dice, rank)
    if chosen is None:
        return None
    reason = pick.done(both.stable, chosen)
    if both.is_canary(chosen):
        both.canary.picks += 1
    if chosen in bonus:
        reason = Reason.AFFINITY
    return BothDecision(both, chosen, reason, least)


class Both:
    """The clusters of both versions as they look to one request. `failed` are those where the
    stable version need not be tried any more, `failed_canaries` those where the canary was."""

    def __init__(
        self, table: RoutingTable, signals: Signals, question: Question, split: Split
    ) -> None:
        self.question = question
        self.split = split
        version = split.canary.version
        other = Resolved(route=question.resolved.route, version=version)
        self.stable = _looked_at(table, signals, question)
        asked = Question(
            resolved=other,
            now_s=question.now_s,
            regions=question.regions,
            origin=question.origin,
        )
        self.canary = _looked_at(table, signals, asked)
        self.failed = {
            f.cluster
            for f in split.failed
            if f.version != version or f.ending is not Ending.REFUSED
        }
        self.failed_canaries = {f.cluster for f in split.failed if f.version == version}

    def candidates(self, split: Split, dice: Dice) -> list[Option]:
        """Return for each of the best clusters the version that answers there, if one can."""
        best = self.stable.best
        canaries = self._canaries(split, dice)
        served = {option.region for option in canaries.values()}
        found = []
        for option in best:
            canary = canaries.pop(option.cluster, None)
            if canary is not None:
                found.append(canary)
            elif option.region in served and option.cluster in self.canary.by_cluster:
                continue  # its canary is out, and another one of the region is not
            elif self._usable(option, self.failed, self.stable, dice):
                found.append(option)
        return found + list(canaries.values())

    def score_ms(self, option: Option) -> float:
        """Return the expected time to the first byte; of a canary, as if it were as fast as the
        stable version beside it."""
        now_s = self.question.now_s
        beside = self.stable.by_cluster.get(option.cluster)
        if beside is None or not self.is_canary(option):
            return option.way_ms + option.lane.cost_ms(now_s)
        return option.way_ms + beside.lane.service_ms + option.lane.wait_ms(now_s)

    def is_canary(self, option: Option) -> bool:
        """Whether an option is the canary's."""
        return option.version == self.split.canary.version

    def _canaries(self, split: Split, dice: Dice) -> dict[str, Option]:
        """Return the canaries that may answer, by cluster: beside the best of the stable version,
        and where that is not to be had."""
        stable, canary = self.stable, self.canary
        beside = [canary.by_cluster.get(option.cluster) for option in stable.best]
        apart = [o for o in canary.best if _alone(stable.by_cluster.get(o.cluster))]
        return {
            option.cluster: option
            for option in (*beside, *apart)
            if option is not None
            and split.takes(option.region)
            and self._is_well(option)
            and self._usable(option, self.failed_canaries, canary, dice)
        }

    def _is_well(self, option: Option) -> bool:
        """Whether a canary is not out; where too few of its peers are well to believe it, it is."""
        if not option.endpoint.present or option.why:
            return False
        return not self.canary.panic or not avoid(option.lane, self.question.now_s)

    def _usable(
        self, option: Option, failed: Collection[str], short: Shortlist, dice: Dice
    ) -> bool:
        lane, now_s = option.lane, self.question.now_s
        return (
            option.cluster not in failed
            and lane.held_until_s <= now_s
            and lane.in_flight(now_s) < lane.limit
            and not pick.capped(option, short, now_s, dice)
        )


def _alone(beside: Option | None) -> bool:
    return beside is None or bool(beside.why)


def _looked_at(table: RoutingTable, signals: Signals, question: Question) -> Shortlist:
    short = pick.shortlist(table, signals, question)
    pick.bring_up_to_date(short, signals, question.now_s)
    return short


class BothDecision(Decision):
    """A choice between two versions as well."""

    __slots__ = ("_both",)

    def __init__(self, both: Both, chosen: Option, reason: Reason, score_ms: float) -> None:
        super().__init__(both.stable, both.question, chosen, reason, score_ms)
        self._both = both

    def candidates(self) -> list[Candidate]:
        """Return all clusters as they look to this request, once for each version that is there;
        those of the chosen version first."""
        both, chosen = self._both, self.chosen
        options = [o for o in both.canary.options if both.split.takes(o.region) or o is chosen]
        rows = [self._row(o) for o in (*options, *both.stable.options)]
        return sorted(rows, key=lambda row: chosen is None or row.version != chosen.version)

    def _row(self, option: Option) -> Candidate:
        both, question, split = self._both, self._question, self._both.split
        failed = both.failed_canaries if both.is_canary(option) else both.failed
        row = weighed(option, replace(question, failed=failed), self.chosen)
        if both.is_canary(option):
            beside = both.stable.by_cluster.get(option.cluster)
            service_ms = beside.lane.service_ms if beside else row.service_ms
            score_ms = row.score_ms - row.wait_ms - row.service_ms + service_ms
            wait_ms = option.lane.wait_ms(question.now_s)
            row = replace(row, wait_ms=wait_ms, service_ms=service_ms, score_ms=score_ms + wait_ms)
        elif (
            option is not self.chosen
            and not row.excluded
            and split.takes(option.region)
            and option.cluster in both.canary.by_cluster
        ):
            row = replace(row, excluded=f"the canary, version {split.canary.version}, answers")
        return row
