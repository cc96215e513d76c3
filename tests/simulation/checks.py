"""What must hold at every moment of a simulated rollout, by what the control plane decides and
engines do. What must hold of requests is in `served`.

Input: the World. Output: AssertionErrors.
"""

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from federation.contract.types import AssignedVersion, Urgency
from federation.policy.rollouts.ongoing import moving
from federation.policy.rollouts.placing import weights_of
from federation.policy.rollouts.records import Phase, RolloutRecord
from federation.policy.standing import assigned_versions
from router.policy.split import standing
from tests.simulation.agents import Key
from tests.simulation.scenario import MODEL, PLACES

if TYPE_CHECKING:
    from tests.simulation.world import World

Given = dict[str, tuple[tuple[int, bool], ...]]  # version, and whether it only lies ready
Whole = dict[str, tuple[AssignedVersion, ...]]
SAMPLE = 400  # clients by whom shares are measured
OFF = 8.0  # percent that a share of so many clients may be off: more than three sigma


@lru_cache(maxsize=1024)
def share(rollout: str, weight: float) -> float:
    """Return the percentage of clients that a canary gets under a weight."""
    marks = [standing(rollout, f"client {i}")[0] for i in range(SAMPLE)]
    return 100.0 * sum(mark < weight for mark in marks) / SAMPLE


def calm(version: AssignedVersion) -> AssignedVersion:
    """Return what is assigned, however urgent it is."""
    return replace(version, urgency=Urgency.NORMAL)


class Checks:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.before: dict[str, Given] = {}  # what was assigned when a rollout began
        self.whole_before: dict[str, Whole] = {}
        self.last: Given = {}
        self.whole_last: Whole = {}
        self.begun: set[str] = set()
        self.shown: dict[str, set[str]] = {}  # clusters of waves that had a share, by rollout
        self.weights: dict[str, dict[str, float]] = {}
        self.revision = -1
        self.loaded_at: dict[int, set[str]] = {}
        self.still: dict[str, tuple[int, frozenset[Key]]] = {}  # what nothing may happen to
        self.unloaded = 0

    # ------------------------------------------------------------ the control plane

    def look(self) -> None:
        """After each commit."""
        state = self.world.plane.state
        if state.revision == self.revision:
            return
        self.revision = state.revision
        assert sum(r.moving for r in state.rollouts.values()) <= 1, "two rollouts of a model move"
        record = moving(state, MODEL)
        given = self.given()
        for name, each in state.rollouts.items():
            if each.over and name not in self.begun:
                self.begun.add(name)
                self.over(each, given)
        if record is not None:
            name = record.meta.name
            if name not in self.before:
                self.before[name], self.whole_before[name] = self.last, self.whole_last
            shown = self.shown.setdefault(name, set())
            shown |= {cluster for w in record.entered if w.weight for cluster in w.clusters}
            if record.waves[record.wave].weight:
                self.world.served.weighed(record)
            self.one_wave(record, given)
            self.splits(record)
            self.floor(record, given)
        self.residency(given)
        self.last, self.whole_last = given, self.whole()

    def note(self) -> None:
        """At the end of each tick."""
        for name, agent in self.world.agents.items():
            for _, version in agent.loaded:
                self.loaded_at.setdefault(version, set()).add(name)
        assert not self.world.agents["cn1"].loaded, "a cluster outside has the model"
        if int(self.world.now_s) % 10 == 0:
            self.world.served.counted()

    def given(self) -> Given:
        state = self.world.plane.state
        return {
            name: tuple((v.version, v.stage_only) for v in assigned_versions(cluster, MODEL))
            for name, cluster in state.clusters.items()
        }

    def whole(self) -> Whole:
        """Return what is assigned, with all that is told of it."""
        clusters = self.world.plane.state.clusters.items()
        return {name: assigned_versions(cluster, MODEL) for name, cluster in clusters}

    def one_wave(self, record: RolloutRecord, given: Given) -> None:
        """Nothing of a later wave has weight or is loaded; what comes next only lies ready."""
        assert all(not w.weight for w in record.waves[record.wave + 1 :]), "a later wave has weight"
        entered = {name for wave in record.entered for name in wave.clusters}
        before = self.before[record.meta.name]  # it may have been the stable one not long ago
        for name, versions in given.items():
            if (record.canary, False) in before.get(name, ()):
                continue
            serving = {version for version, only in versions if not only}
            assert record.canary not in serving or name in entered, f"{name} has it too early"

    def splits(self, record: RolloutRecord) -> None:
        """Shares are shares, clients are spread by them, and they only rise until they go."""
        name, weights = record.meta.name, weights_of(record)
        if record.phase is Phase.ROLLING_BACK:
            assert not weights, "a canary that goes back has a share"
        old = self.weights.get(name, {})
        for region, weight in weights.items():
            assert 0 < weight <= 100
            assert weight >= old.get(region, 0.0), f"the share in {region} falls"
            assert abs(share(name, weight) - weight) < OFF, f"{weight} % are not the clients"
        if not weights and old:
            assert record.phase is Phase.ROLLING_BACK, "a share went away"
        self.weights[name] = weights
        route = next((r for r in self.world.plane.snapshot.models if r.name == MODEL), None)
        if route is not None and route.canary is not None:
            assert all(0 < weight <= 100 for weight in route.canary.weights.values())

    def floor(self, record: RolloutRecord, given: Given) -> None:
        """The stable version stays assigned wherever it was; in place, where no wave came yet."""
        if self.target() != record.stable:
            return  # somebody wished another version everywhere at once
        in_place = record.spec.strategy.in_place
        for number, wave in enumerate(record.waves):
            if in_place and number <= record.wave:
                continue
            for name in wave.clusters:
                had = (record.stable, False) in self.before[record.meta.name].get(name, ())
                has = (record.stable, False) in given[name]
                assert has or not had, f"{name} lost its stable version"

    def unloads(self, cluster: str, key: Key) -> None:
        """An agent unloads something on purpose, as its newest assignment wants it."""
        self.unloaded += 1
        state = self.world.plane.state
        record, held = moving(state, MODEL), self.world.agents[cluster].reconciler.assignment
        if record is None or record.stable != key[1] or record.spec.strategy.in_place:
            return
        newest = state.clusters[cluster].assignment.generation
        if held is not None and held.generation == newest and self.target() == record.stable:
            raise AssertionError(f"{cluster} unloads the stable version {key[1]}")

    def residency(self, given: Given) -> None:
        for name, versions in given.items():
            inside = PLACES[name] in self.world.scenario.residency
            assert inside or not versions, f"{name} outside of the residency was given the model"

    def over(self, record: RolloutRecord, given: Given) -> None:
        """A rollout ended."""
        name = record.meta.name
        if record.phase is Phase.PROMOTED:
            assert self.target() == record.canary
        if record.phase is not Phase.ROLLED_BACK or self.target() != record.stable:
            return
        if name not in self.before or moving(self.world.plane.state, MODEL):
            return  # another one began with the same commit
        before, whole = self.whole_before[name], self.whole()
        for cluster, versions in given.items():
            assert record.canary not in dict(versions), f"{cluster} kept what was rolled back"
            if record.spec.strategy.in_place:
                continue  # the stable version may be on its way back
            was, now = (
                tuple(calm(v) for v in all_of[cluster] if v.version == record.stable)
                for all_of in (before, whole)
            )
            assert was == now, f"{cluster} ended in another assignment: {was}, now {now}"

    def target(self) -> int:
        return self.world.plane.state.deployments["d"].target

    # ------------------------------------------------------------ the end

    def returned(self, lost: set[str]) -> None:
        """What was lost for hours is back: nothing happens to the others, if nothing goes on."""
        world = self.world
        world.note("a lost region is back")
        if world.plane.state.going or not world.is_settled(lost):
            return
        for name, agent in world.agents.items():
            if name not in lost:
                generation = world.plane.state.clusters[name].assignment.generation
                self.still[name] = (generation, frozenset(agent.loaded))

    def is_at_rest(self) -> bool:
        """Whether all engines and routers have come to the end."""
        world, target = self.world, self.target()
        routes = [router.table.models[MODEL] for router in world.routers.values()]
        routed = all(r.canary is None and r.default_version == target for r in routes)
        return routed and world.is_up(target)

    def at_the_end(self) -> None:
        world = self.world
        state = world.plane.state
        target = self.target()
        assert world.is_up(target), f"engines do not serve version {target} alone"
        for name, given in self.given().items():
            wanted = ((target, False),) if name in world.scenario.inside else ()
            assert given == wanted, f"{name} has {given} in the end"
        for router in world.routers.values():
            route = router.table.models[MODEL]
            assert route.canary is None
            assert route.default_version == target
        for name, (generation, loaded) in self.still.items():
            assert state.clusters[name].assignment.generation == generation, f"{name} flapped"
            assert frozenset(world.agents[name].loaded) == loaded, f"{name} flapped"
