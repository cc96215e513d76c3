"""What must hold at every moment of a simulated rollout.

Input: the World. Output: AssertionErrors.
"""

from typing import TYPE_CHECKING

from federation.policy.rollouts.ongoing import moving
from federation.policy.rollouts.placing import weights_of
from federation.policy.rollouts.records import Phase, RolloutRecord
from federation.policy.standing import assigned_versions
from tests.simulation.routers import Router

if TYPE_CHECKING:
    from tests.simulation.world import World

MODEL = "m"
CLIENTS = [f"client {i}" for i in range(6)]
Given = dict[str, tuple[tuple[int, bool], ...]]  # version, and whether it only lies ready


class Checks:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.before: dict[str, Given] = {}  # what was assigned when a rollout began
        self.last: Given = {}
        self.begun: set[str] = set()
        self.seen: dict[tuple[str, str, str, str], float] = {}
        self.canary: dict[tuple[str, str, str, str], bool] = {}
        self.revision = -1
        self.unloaded: dict[str, int] = {}
        self.loaded_at: dict[int, set[str]] = {}

    # ------------------------------------------------------------ the control plane

    def look(self) -> None:
        """After each commit."""
        state = self.world.plane.state
        if state.revision == self.revision:
            return
        self.revision = state.revision
        assert sum(r.moving for r in state.rollouts.values()) <= 1, "two rollouts of a model move"
        record = moving(state, MODEL)
        for name, each in state.rollouts.items():
            if each.over and name not in self.begun:
                self.begun.add(name)
                self.over(each)
        if record is not None:
            self.before.setdefault(record.meta.name, self.last)
            self.one_wave(record)
            self.floor(record)
        self.residency()
        self.last = self.given()

    def note(self) -> None:
        """At the end of each tick."""
        for name, agent in self.world.agents.items():
            for _, version in agent.loaded:
                self.loaded_at.setdefault(version, set()).add(name)

    def given(self) -> Given:
        state = self.world.plane.state
        return {
            name: tuple((v.version, v.stage_only) for v in assigned_versions(cluster, MODEL))
            for name, cluster in state.clusters.items()
        }

    def one_wave(self, record: RolloutRecord) -> None:
        """Nothing of a later wave has weight or is loaded; what comes next only lies ready."""
        assert all(not w.weight for w in record.waves[record.wave + 1 :]), "a later wave has weight"
        entered = {name for wave in record.entered for name in wave.clusters}
        before = self.before[record.meta.name]  # it may have been the stable one not long ago
        for name, versions in self.given().items():
            if (record.canary, False) in before.get(name, ()):
                continue
            serving = {version for version, only in versions if not only}
            assert record.canary not in serving or name in entered, f"{name} has it too early"
        weights = weights_of(record)
        assert all(0 < weight <= 100 for weight in weights.values())
        if record.phase is Phase.ROLLING_BACK:
            assert not weights

    def floor(self, record: RolloutRecord) -> None:
        """The stable version stays assigned wherever it was."""
        if self.target() != record.stable:
            return  # somebody wished another version everywhere at once
        given = self.given()
        for wave in record.waves:
            for name in wave.clusters:
                assert (record.stable, False) in given[name], f"{name} lost its stable version"

    def residency(self) -> None:
        given = self.given()
        assert not given["cn1"], "a cluster outside was given the model"

    def over(self, record: RolloutRecord) -> None:
        given = self.given()
        if record.phase is Phase.PROMOTED:
            assert self.target() == record.canary
        if record.phase is not Phase.ROLLED_BACK or self.target() != record.stable:
            return
        other = moving(self.world.plane.state, MODEL)  # began with the same commit
        if record.meta.name in self.before and not other:
            before = self.before[record.meta.name]
            stable = (record.stable, False)
            for name, versions in given.items():
                same = (stable in versions) == (stable in before[name])
                assert same, f"{name} ended in another assignment"
                assert record.canary not in dict(versions), f"{name} kept what was rolled back"

    def target(self) -> int:
        return self.world.plane.state.deployments["d"].target

    # ------------------------------------------------------------ routers

    def ask(self, router: Router) -> None:
        """Clients ask; each moves to a canary once, and back only when that is rolled back."""
        if not router.table.models:
            return
        route = router.table.models.get(MODEL)
        if route is None:
            return
        shares = route.canary.weights if route.canary else {}
        for client in CLIENTS:
            for region in ("eu", "us", "ap"):
                rollout, version, clusters = router.answer(MODEL, client, region)
                assert "cn1" not in clusters
                canary = route.canary.version if route.canary else 0
                assert version in (route.default_version, canary)
                key = (router.name, client, region, rollout)
                if rollout and (version == canary) < self.canary.get(key, False):
                    left = shares.get(region, 0.0) < self.seen[key]
                    assert not left, f"{client} was moved back in {region}"
                if rollout:
                    self.canary[key] = self.canary.get(key, False) or version == canary
                    self.seen[key] = max(shares.get(region, 0.0), self.seen.get(key, 0.0))

    # ------------------------------------------------------------ the end

    def at_the_end(self) -> None:
        world = self.world
        target = world.plane.state.deployments["d"].target
        assert world.is_up(target), f"engines do not serve version {target} alone"
        for router in world.routers.values():
            route = router.table.models[MODEL]
            assert route.canary is None
            assert route.default_version == target
