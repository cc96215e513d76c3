"""What must hold of every request in a simulation.

Input: attempts that routers make. Output: AssertionErrors.
"""

from collections import Counter
from typing import TYPE_CHECKING

from federation.policy.rollouts.events import RouterCounted
from federation.policy.rollouts.records import RolloutRecord
from router.policy.signals import avoid
from tests.simulation.routers import Router, Tried
from tests.simulation.scenario import MODEL

BACK_S = 60.0  # what was out gets its share of the requests back in less

if TYPE_CHECKING:
    from tests.simulation.world import World


class Served:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.attempts: Counter[tuple[int, str]] = Counter()  # by version and region
        self.before: dict[tuple[str, str], Counter[tuple[int, str]]] = {}  # by rollout and region
        self.marks: dict[tuple[str, str], float] = {}  # by rollout and client
        self.failed = 0

    def look(self, tried: Tried, size: int) -> None:
        """After each attempt."""
        option, client = tried.option, tried.client
        self.attempts[option.version, option.region] += size
        self.failed += tried.failed is not None
        who = client.key or "somebody"
        where = f"a request of {who} from {client.home} at {option.cluster}"
        assert option.region in self.world.scenario.residency, f"residency: {where}"
        assert not client.regions or option.region in client.regions, f"tenant: {where}"
        split = tried.resolved.split
        route = tried.table.models[MODEL]
        if split is None:
            assert option.version == route.default_version, f"{where} got another version"
            return
        stable, canary = route.default_version, split.canary.version
        assert option.version in (stable, canary), f"{where} got another version"
        if option.version == canary != stable:  # in place, it may be all that is left
            shown = self.world.checks.shown.get(split.canary.rollout, set())
            warm = (canary, False) in self.world.checks.before[split.canary.rollout].get(
                option.cluster, ()
            )
            assert warm or option.cluster in shown, f"{where}: its wave has no share"
        if not split.sticky:
            return
        mark = self.marks.setdefault((split.canary.rollout, client.key), split.mark)
        assert mark == split.mark, f"{where}: its mark moved"
        if tried.before:
            return
        if option.version == stable != canary and split.takes(option.region):
            doubts = self._doubts(tried, canary).get(option.cluster, "it is not there")
            assert doubts, f"{where} did not get the canary (mark {split.mark:.1f})"
        if option.version == canary != stable and not split.takes(option.region):
            fine = [name for name, why in self._doubts(tried, stable).items() if not why]
            assert not fine, f"{where} got the canary though {fine} are there"

    def _doubts(self, tried: Tried, version: int) -> dict[str, str]:
        """Return the clusters where a request might get a version, and what speaks against."""
        now_s, found = self.world.now_s, {}
        for endpoint in tried.table.replicas(MODEL, version, tried.client.regions):
            lane = tried.router.signals.lane(endpoint.cluster, MODEL, version)
            back = "it comes back" if now_s < lane.back_at_s + BACK_S else ""
            absent = "" if endpoint.present else "absent"
            found[endpoint.cluster] = avoid(lane, now_s) or absent or back
        return found

    # ------------------------------------------------------------ counts

    def weighed(self, record: RolloutRecord) -> None:
        """A share was ordered for the regions of a wave: their requests may count soon."""
        for region in record.waves[record.wave].regions:
            if (record.meta.name, region) not in self.before:
                self.before[record.meta.name, region] = self._heard()

    def _heard(self) -> Counter[tuple[int, str]]:
        """Return the attempts without those that routers made after a report that is under way: a
        report counts from when it comes in, so the next one may tell of them as new."""
        found, late = self.attempts.copy(), list(self.world.under_way())
        for router in self.world.routers.values():
            reports = [r for r in late if r.name == router.name]
            for key, counts in router.counting.counts.items() if reports else ():
                found[key[1:]] -= sum(counts.requests) - min(_told(r, router, key) for r in reports)
        return found

    def counted(self) -> None:
        """The analysis counts no request twice, whatever was lost, doubled or killed."""
        state = self.world.plane.state
        for name, analysis in state.desk.analyses.items():
            record = state.rollouts[name]
            for region, known in analysis.regions.items():
                before = self.before.get((name, region), self.attempts)
                for version, groups in (
                    (record.canary, [e.canary for e in known.evidence.values()]),
                    (record.stable, [e.stable for e in known.evidence.values()]),
                ):
                    sent = self.attempts[version, region] - before[version, region]
                    for group in groups:
                        assert sum(group.n) <= sent, f"{name}: {region} counts more than was sent"

    def at_the_end(self) -> None:
        """Every attempt was counted, of one version."""
        for router in self.world.routers.values():
            counted = sum(sum(c.requests) for c in router.counting.counts.values())
            assert counted == router.attempts, f"{router.name} counts another number"


def _told(report: RouterCounted, router: Router, key: tuple[str, int, str]) -> int:
    """Return how many of a router's attempts a report tells of; none, if of a run before."""
    if report.instance != router.instance:
        return 0
    return sum(sum(c.requests) for c in report.counts if (c.model, c.version, c.region) == key)
