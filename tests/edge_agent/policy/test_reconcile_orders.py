"""The reconciler under all orders of events: `World.check` after each, convergence at the end."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.policy.events import AssignmentReceived, EngineLost, Key, ServingDoubted, Ticked
from edge_agent.policy.reconcile import Reconciler
from federation.contract.types import Urgency, VersionState
from tests.depth import examples
from tests.edge_agent.policy.reconcile_world import World

S = VersionState
KEYS = [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
WISHES = st.sets(st.sampled_from(KEYS)).map(sorted)


class Orders(RuleBasedStateMachine):
    """All orders of events: `World.check` runs after each; at the end everything converges."""

    @initialize()
    def begin(self) -> None:
        self.world = World()

    @rule(keys=WISHES, ready=WISHES, replicas=st.integers(1, 2), urgency=st.sampled_from(Urgency))
    def assigned(self, keys: list[Key], ready: list[Key], replicas: int, urgency: Urgency) -> None:
        stage = [key for key in ready if key not in keys]
        self.world.assign(*keys, stage=stage, replicas=replicas, urgency=urgency)

    @rule()
    def listed(self) -> None:
        self.world.ask()

    @rule(late_s=st.sampled_from([0.015, 0.5, 5.0]))
    def listed_long_ago(self, late_s: float) -> None:
        self.world.ask(asked_s=self.world.now - late_s)

    @rule()
    def lost(self) -> None:
        self.world.send(EngineLost(reason="no answer"))

    @rule()
    def engine_restarted(self) -> None:
        self.world.restart_engine()

    @rule(key=st.sampled_from(KEYS), digest=st.sampled_from(["", "other"]))
    def someone_else_loaded(self, key: Key, digest: str) -> None:
        self.world.engine.setdefault(key, digest)

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), ok=st.booleans(), down=st.booleans())
    def job_ended(self, data: st.DataObject, ok: bool, down: bool) -> None:
        job = data.draw(st.sampled_from(sorted(self.world.jobs)))
        if ok:
            self.world.finish(job)
        else:
            self.world.fail(job, engine_down=down)

    @rule(key=st.sampled_from(KEYS))
    def doubted(self, key: Key) -> None:
        self.world.send(ServingDoubted(model=key[0], version=key[1], reason="500"))

    @rule(seconds=st.sampled_from([0.5, 3.0, 70.0]))
    def waited(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.send(Ticked())

    @rule()
    def agent_restarted(self) -> None:
        kept = self.world.kept
        self.world.jobs.clear()
        self.world.warm.clear()
        self.world.reconciler = Reconciler(dice=random.Random(2))
        if kept is not None:
            self.world.send(AssignmentReceived(assignment=kept))

    @invariant()
    def each_record_can_be_shown(self) -> None:
        if hasattr(self, "world"):
            assert repr(self.world.reconciler)
            assert all(repr(r) for r in self.world.reconciler.records.values())

    def teardown(self) -> None:
        if not hasattr(self, "world") or self.world.kept is None:
            return
        world, kept = self.world, self.world.kept
        world.run()
        world.run()
        wanted = {(v.model, v.version): v for v in kept.versions if not v.stage_only}
        ready = {(v.model, v.version) for v in kept.versions if v.stage_only}
        assert set(world.engine) == set(wanted)
        for key, record in world.reconciler.records.items():
            ends = S.WARMED if key in wanted else S.VERIFIED if key in ready else S.CACHED
            assert record.state is ends
        assert (ready | set(wanted)) <= set(world.reconciler.records)


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=examples(80), stateful_step_count=40, deadline=None)
