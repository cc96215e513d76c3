"""Clusters on a bad network: reports late, doubled and out of order; agents, engines and the
control plane that restart; wishes that change in between. What must hold is in the invariants."""

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from federation.contract.resources import DeploymentSpec, PrefetchSpec
from federation.contract.sync import SyncProgress
from federation.contract.types import (
    AssignedVersion,
    Assignment,
    EngineKind,
    ObservedVersion,
    Report,
    Runtime,
    Scheduling,
    Urgency,
    VersionState,
)
from federation.policy.events import AgentReported, Assign, Delete, Put, Started
from federation.policy.placement import is_barred, wish_of
from federation.policy.rooms import Rooms
from federation.policy.settle import settle
from federation.policy.state import State, Step, restore
from tests.depth import examples
from tests.federation.policy.world import World

CLUSTERS = ("a", "b", "c")
clusters = st.sampled_from(CLUSTERS)
versions = st.integers(1, 3)


class Agent:
    """Obeys the newest assignment that reached it; `warm` is what its engine really serves."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.warm: set[int] = set()
        self.epoch = 0
        self.sequence = 0
        self.lost_at = (0, 0)

    @property
    def to_load(self) -> set[int]:
        return {v.version for v in self.assignment.versions if not v.stage_only}

    def unload(self) -> None:
        self.warm &= self.to_load


class Federation(RuleBasedStateMachine):
    @initialize(last_runtime=st.sampled_from([Runtime.ONNX, Runtime.TRITON]))
    def begin(self, last_runtime: Runtime) -> None:
        self.barred_at_c = last_runtime is Runtime.TRITON  # so c may have to give all up
        self.world = World()
        self.clean = World()  # is told of nothing that is old
        for world in (self.world, self.clean):
            world.cluster("a", "ra")
            world.cluster("b", "rb")
            world.cluster("c", "rc", engine=EngineKind.RAY_SERVE)
            for content, runtime in (("1", Runtime.ONNX), ("2", Runtime.ONNX), ("3", last_runtime)):
                world.push("m", content, runtime)
            world.deploy(DeploymentSpec(model="m", version=1))
        self.regions = dict(zip(CLUSTERS, ("ra", "rb", "rc"), strict=True))
        self.stored: dict[tuple[str, str], object] = {}
        self.agents = {name: Agent(self.assignment(name)) for name in CLUSTERS}
        for name, agent in self.agents.items():
            agent.epoch = self.world.state.presences[name].epoch
            agent.sequence = self.world.state.presences[name].sequence
        self.newest = {n: (a.epoch, a.sequence) for n, a in self.agents.items()}
        self.network: list[Report] = []
        self.drain_commands()

    def assignment(self, name: str) -> Assignment:
        return self.world.state.clusters[name].assignment

    def drain_commands(self) -> list[Assignment]:
        """Write what a store would write; return the assignments that were sent."""
        sent = []
        for command in self.world.commands:
            if isinstance(command, Put):
                self.stored[command.kind, command.name] = command.record
            elif isinstance(command, Delete):
                del self.stored[command.kind, command.name]
            elif isinstance(command, Assign):
                sent.append(command.assignment)
        self.world.commands.clear()
        self.clean.commands.clear()
        return sent

    # ------------------------------------------------------------ people

    @rule(version=versions, pinned=st.sets(versions, max_size=2))
    def deploy(self, version: int, pinned: set[int]) -> None:
        spec = DeploymentSpec(model="m", version=version, pinned_versions=tuple(sorted(pinned)))
        for world in (self.world, self.clean):
            world.deploy(spec)

    @rule(version=versions, names=st.sets(clusters), prefetch=st.sampled_from(["p", "q"]))
    def prefetch(self, version: int, names: set[str], prefetch: str) -> None:
        """Some clusters (or, with no name, none any more) shall have a version ready."""
        for world in (self.world, self.clean):
            if names:
                regions = tuple(sorted(self.regions[name] for name in names))
                world.prefetch(PrefetchSpec(model="m", version=version, regions=regions), prefetch)
            elif prefetch in world.state.prefetches:
                world.remove("Prefetch", prefetch)

    @rule(name=clusters, scheduling=st.sampled_from(list(Scheduling)[:3]))
    def schedule(self, name: str, scheduling: Scheduling) -> None:
        for world in (self.world, self.clean):
            world.schedule(name, scheduling)

    # ------------------------------------------------------------ agents

    @rule(name=clusters, warms=st.sets(versions), fate=st.sampled_from(["arrives", "late", "both"]))
    def work(self, name: str, warms: set[int], fate: str) -> None:
        """The agent obeys the newest assignment, warms some of it up and reports."""
        self.obey(name)
        agent = self.agents[name]
        agent.warm |= warms & agent.to_load
        self.report(name, fate)

    @rule(name=clusters, fate=st.sampled_from(["arrives", "late", "both"]))
    def report_before_obeying(self, name: str, fate: str) -> None:
        self.report(name, fate)

    def obey(self, name: str) -> None:
        agent = self.agents[name]
        before = set(agent.warm)
        agent.assignment = self.assignment(name)
        agent.unload()
        knows = self.newest[name] > agent.lost_at  # that an engine was lost must have been told
        excused = name == "c" and self.barred_at_c
        if before & self.allowed(name) and knows and not excused:
            assert agent.warm, f"a gap at {name}: {before} → {agent.assignment}"

    def allowed(self, name: str) -> set[int]:
        """The versions that may be at a cluster at all."""
        state = self.world.state
        wish = wish_of(state.deployments["d"], state.models["m"])
        room = Rooms(state)[name]
        return {number for number in wish.versions if not is_barred(wish, room, number)}

    @rule(name=clusters)
    def lose_engine(self, name: str) -> None:
        agent = self.agents[name]
        agent.warm.clear()
        agent.lost_at = (agent.epoch, agent.sequence)

    def state_of(self, version: AssignedVersion, agent: Agent) -> VersionState:
        if version.version in agent.warm:
            return VersionState.WARMED
        return VersionState.VERIFIED if version.stage_only else VersionState.PENDING

    def report(self, name: str, fate: str) -> None:
        agent = self.agents[name]
        agent.sequence += 1
        seen = [
            ObservedVersion(
                model="m",
                version=v.version,
                digest=v.digest,
                state=self.state_of(v, agent),
                sync=SyncProgress(total_bytes=9, done_bytes=agent.sequence % 9),
            )
            for v in agent.assignment.versions
        ]
        report = self.world.make_report(name, seen, generation=agent.assignment.generation)
        report = replace(report, epoch=agent.epoch, sequence=agent.sequence)
        if fate != "arrives":
            self.network.append(report)
        if fate != "late":
            self.deliver(report)

    @precondition(lambda self: self.network)
    @rule(data=st.data(), twice=st.booleans())
    def deliver_late(self, data: st.DataObject, *, twice: bool) -> None:
        report = data.draw(st.sampled_from(self.network))
        if not twice:
            self.network.remove(report)
        self.deliver(report)

    def deliver(self, report: Report) -> None:
        presence = self.world.state.presences[report.cluster]
        key = (report.epoch, report.sequence)
        new = presence.connected and report.epoch == presence.epoch
        new = new and key > self.newest[report.cluster]
        assert self.world.do(AgentReported(report=report)) is new
        if new:
            self.newest[report.cluster] = key
            self.clean.do(AgentReported(report=report))
            assert self.world.state.reports[report.cluster] == report

    # ------------------------------------------------------------ trouble: nothing is removed by it

    @rule(
        name=clusters,
        kind=st.sampled_from(["connect", "disconnect", "short", "long", "restart"]),
    )
    def trouble(self, name: str, kind: str) -> None:
        with_all = self.everything()
        if kind == "connect":
            self.connect(name)
        for world in (self.world, self.clean):
            if kind == "disconnect":
                world.disconnect(name)
            elif kind in ("short", "long"):
                world.advance(4 if kind == "short" else 11)
            elif kind == "restart":
                world.restart()
        assert self.everything() == with_all

    def connect(self, name: str) -> None:
        welcomed = self.world.connect(name)
        self.clean.connect(name)
        agent = self.agents[name]
        assert welcomed.epoch > agent.epoch
        assert welcomed.assignment == self.assignment(name)
        agent.epoch, agent.sequence = welcomed.epoch, 0
        self.newest[name] = (agent.epoch, 0)

    def everything(self) -> dict[str, Assignment]:
        return {name: self.assignment(name) for name in CLUSTERS}

    # ------------------------------------------------------------ what must hold

    @invariant()
    def old_reports_changed_nothing(self) -> None:
        if hasattr(self, "world"):
            self.clean.state.ignored_reports = self.world.state.ignored_reports
            assert self.world.state == self.clean.state

    @invariant()
    def the_store_holds_what_the_state_holds(self) -> None:
        if not hasattr(self, "world"):
            return
        self.drain_commands()
        for kind in ("Region", "Cluster", "Model", "Deployment", "Prefetch", "Event"):
            kept = {name: record for (k, name), record in self.stored.items() if k == kind}
            assert kept == self.world.state.table(kind)

    @invariant()
    def settled_means_settled(self) -> None:
        if hasattr(self, "world"):
            step = Step(self.world.state.copy(), self.world.now, "test")
            settle(step)
            assert len(step.commands) == 1, step.commands  # only the look at the snapshot

    @invariant()
    def only_fitting_versions_were_added(self) -> None:
        if not hasattr(self, "world"):
            return
        for name in CLUSTERS:
            assigned = {v.version for v in self.assignment(name).versions}
            assert assigned <= self.allowed(name)

    @invariant()
    def what_lies_ready_was_asked_for_and_is_in_no_hurry(self) -> None:
        if not hasattr(self, "world"):
            return
        state = self.world.state
        for name in CLUSTERS:
            numbers = [v.version for v in self.assignment(name).versions]
            assert len(set(numbers)) == len(numbers)
            for version in self.assignment(name).versions:
                assert version.stage_only is (version.urgency is Urgency.PREFETCH)
                if version.stage_only:
                    assert any(
                        p.spec.version == version.version and self.regions[name] in p.spec.regions
                        for p in state.prefetches.values()
                    )

    @invariant()
    def nothing_is_routed_to_what_only_lies_ready(self) -> None:
        if not hasattr(self, "world"):
            return
        for replica in self.world.snapshot().replicas:
            assert (replica.model, replica.version) not in self.world.staged(replica.cluster)

    @invariant()
    def progress_is_in_no_record(self) -> None:
        if hasattr(self, "world"):
            for record in self.world.state.clusters.values():
                assert record.last is not None
                assert all(seen.sync is None for seen in record.last.observed.versions)

    @invariant()
    def what_can_be_served_is_served(self) -> None:
        if not hasattr(self, "world"):
            return
        snapshot = self.world.snapshot()
        (route,) = snapshot.models
        present = {e.cluster for e in snapshot.endpoints if e.present}
        everywhere = {r.version for r in snapshot.replicas}
        in_contact = {r.version for r in snapshot.replicas if r.cluster in present}
        for served in (everywhere, in_contact):
            if served:
                assert route.default_version in served

    def teardown(self) -> None:
        """Once the trouble ends, all that is wished becomes true, and then nothing moves."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for name in CLUSTERS:
            world.schedule(name, Scheduling.ACTIVE)
            world.connect(name)
        for _ in range(2):  # some may only let go when others have taken over
            for name in CLUSTERS:
                world.serve(name)
        wish = wish_of(world.state.deployments["d"], world.state.models["m"])
        generations = [self.assignment(name).generation for name in CLUSTERS]
        for name in CLUSTERS:
            fitting = self.allowed(name) & set(wish.wanted)
            staged = {version for _, version in world.staged(name)}
            served = {version for _, version in world.assigned(name)} - staged
            asked = {
                p.spec.version
                for p in world.state.prefetches.values()
                if self.regions[name] in p.spec.regions
            }
            assert staged == (asked & self.allowed(name)) - served
            assert served == fitting or (not fitting and served <= self.allowed(name))
        (route,) = world.snapshot().models
        assert route.default_version == wish.target
        for name in CLUSTERS:
            world.serve(name)
        assert generations == [self.assignment(name).generation for name in CLUSTERS]


Federation.TestCase.settings = settings(
    max_examples=examples(30),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestFederation = Federation.TestCase


def test_equal_events_make_equal_states() -> None:
    def story() -> World:
        world = World()
        for name in CLUSTERS:
            world.cluster(name)
        world.push("m", "1")
        world.deploy(DeploymentSpec(model="m"))
        world.serve("b")
        world.push("m", "2")
        world.advance(5)
        world.serve("a")
        world.advance(6)
        return world

    assert story().state == story().state
    assert story().commands == story().commands


def test_a_restored_state_starts_like_the_one_that_was_kept() -> None:
    world = World()
    world.cluster("a")
    records = {k: dict(world.state.table(k)) for k in ("Region", "Cluster", "Event")}
    state = restore(records, revision=world.state.revision, blank=State(lease=world.state.lease))
    assert state.clusters == world.state.clusters
    world.state = state
    world.do(Started())
    assert world.state.presences["a"].sequence == 0
