"""Many rollouts, a little work at a time: no turn of the control loop waits for the analysis.

Input: reports for regions of rollouts, and how much work one call may do. Output: the rollouts of
which something new is known. Counters are cumulative, so of each router and region only the newest
report waits: when reports come faster than they are worked off, they are merged, never lost, and
the memory is bounded.
"""

from dataclasses import dataclass, field

from federation.policy.analysis.analysis import Analysis
from federation.policy.analysis.counting import RouterReport

TAKE = 1  # units of work that a report costs
JUDGE = 4  # and a region that is judged anew; a unit is about 0.1 ms
EVERY_S = 5.0  # a region is judged anew at most so often

Place = tuple[str, str]  # rollout, region


@dataclass(slots=True)
class Desk:
    """Analyses by rollout, reports that wait, regions to be judged."""

    analyses: dict[str, Analysis] = field(default_factory=dict)
    waiting: dict[tuple[str, str, str], RouterReport] = field(default_factory=dict, repr=False)
    turns: dict[Place, float] = field(default_factory=dict, repr=False)  # judged last, oldest first
    dirty: dict[Place, None] = field(default_factory=dict, repr=False)

    def put(self, rollout: str, region: str, report: RouterReport) -> None:
        """Let a report wait; a newer one of the same router takes the place of an older."""
        key = (rollout, region, report.router)
        old = self.waiting.get(key)
        if old is None or old.boot != report.boot or old.sequence < report.sequence:
            self.waiting[key] = report.over(old)

    def work(self, now: float, units: int = 60) -> list[str]:
        """Do about `units` of work; returns the rollouts of which something new is known.

        Judge these with `Analysis.judged`: what it takes was computed here.
        """
        done, news = 0, dict[str, None]()
        while self.waiting and done < units // 2 + 1:
            key = next(iter(self.waiting))
            report = self.waiting.pop(key)
            rollout, region, _ = key
            analysis = self.analyses.get(rollout)
            if analysis is not None and analysis.take(region, report, now):
                self.dirty[rollout, region] = None
            done += TAKE
        for place in list(self.dirty):
            if done >= units:
                break
            if now - self.turns.get(place, float("-inf")) < EVERY_S:
                continue
            del self.dirty[place]
            rollout, region = place
            analysis = self.analyses.get(rollout)
            state = analysis.regions.get(region) if analysis is not None else None
            if state is not None and state.refresh():
                self.turns[place] = now
                news[rollout] = None
                done += JUDGE
        return list(news)

    def drop(self, rollout: str) -> None:
        """Forget a rollout that is over."""
        self.analyses.pop(rollout, None)
        self.waiting = {key: r for key, r in self.waiting.items() if key[0] != rollout}
        self.turns = {place: at for place, at in self.turns.items() if place[0] != rollout}
        self.dirty = {place: None for place in self.dirty if place[0] != rollout}
