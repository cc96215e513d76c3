"""Rollouts in a whole federation on a virtual clock: agents, routers, clients and a bad network.

Input: a Scenario, with its seed. Output: nothing, or an AssertionError that names the invariant,
the moment and the seed. What goes wrong, and what people do, is in `trouble`.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from federation.contract.package import ModelPackage
from federation.contract.resources import ClusterSpec, RegionSpec, RouterSpec
from federation.contract.rollout import RolloutStrategy
from federation.contract.spiffe import PeerRole
from federation.contract.types import Assignment, EngineKind, Runtime, Snapshot
from federation.policy.events import (
    AgentConnected,
    AgentReported,
    ClusterRegistered,
    DeploymentApplied,
    Event,
    ModelVersionPushed,
    RegionApplied,
    RouterAnswered,
    RouterConnected,
    Welcomed,
)
from federation.policy.membership.events import PeerJoined, RouterRegistered
from federation.policy.rollouts.events import RouterCounted
from federation.policy.rollouts.records import RolloutRecord
from router.policy import table
from router.policy.retry import Failed
from router.policy.signals import Ending
from router.policy.table import RoutingTable
from tests.simulation.agents import Agent, Key, Temper
from tests.simulation.checks import Checks
from tests.simulation.plane import Plane
from tests.simulation.routers import Answers, Client, Router
from tests.simulation.scenario import AT, MODEL, PLACES, Chances, Scenario
from tests.simulation.served import Served

LEASE_S = 60.0
CLIENTS = tuple(
    Client(
        key="" if i % 6 == 5 else f"client {i}",
        home=home,
        place=AT[home],
        regions=frozenset({home}) if i % 7 == 3 else frozenset(),
    )
    for i in range(60)
    for home in ("eu", "us", "ap")
)


@dataclass(slots=True)
class World:
    """All of it. `told` is the story of the run, for people; `seen` counts what happened in which
    phase of a rollout."""

    scenario: Scenario
    dice: random.Random = field(init=False)
    plane: Plane = field(init=False)
    temper: Temper = field(default_factory=Temper)
    agents: dict[str, Agent] = field(default_factory=dict)
    routers: dict[str, Router] = field(default_factory=dict)
    cut_until: dict[str, float] = field(default_factory=dict)  # clusters, from the control plane
    dark_until: dict[str, float] = field(default_factory=dict)  # and from routers
    network: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=count)
    table: RoutingTable = field(default_factory=lambda: table.build(Snapshot(version=0)))
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    now_s: float = 0.0
    asks: int = 1  # in a tick
    batch: int = 4  # equal requests of a client at once
    counted_every_s: float = 10.0  # routers tell what they counted
    quiet: bool = False  # the network is good
    told: list[str] = field(default_factory=list)
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    checks: Checks = field(init=False)
    served: Served = field(init=False)

    def __post_init__(self) -> None:
        scenario = self.scenario
        self.dice = random.Random(scenario.seed)
        if scenario.judged:
            self.asks, self.batch, self.counted_every_s = 4, 20, 5.0
        self.plane = Plane(through_json=scenario.through_json, lease_s=LEASE_S)
        self._build()
        self.checks, self.served = Checks(self), Served(self)
        self.plane.after = self.checks.look
        self.plane.killed_at = self._is_killed

    # ------------------------------------------------------------ before it begins

    def _build(self) -> None:
        plane, room = self.plane, 1 if self.scenario.tight else 3
        for region in dict.fromkeys(PLACES.values()):
            plane.do(RegionApplied(actor="ada", name=region, spec=RegionSpec(location=AT[region])))
        for name, region in PLACES.items():
            plane.do(
                ClusterRegistered(
                    actor="ada",
                    name=name,
                    spec=ClusterSpec(region=region, allow_code=True),
                    token_sha256=name,
                    token_expires_at=plane.now.replace(year=2027),
                )
            )
            self._join(PeerRole.CLUSTER, name)
            agent = Agent(name, self.temper, self.dice, room=room, on_unload=self._unloads)
            self.agents[name] = agent
        for name in ("r1", "r2"):
            plane.do(
                RouterRegistered(
                    actor="ada",
                    name=name,
                    spec=RouterSpec(),
                    token_sha256=name,
                    token_expires_at=plane.now.replace(year=2027),
                )
            )
            self._join(PeerRole.ROUTER, name)
            self.routers[name] = Router(name, self.dice)
        for content in "123":
            self._push(content)
        plane.do(DeploymentApplied(actor="ada", name="d", spec=self.scenario.wish(1)))

    def _join(self, role: PeerRole, name: str) -> None:
        self.plane.do(PeerJoined(role=role, name=name, token_sha256=name, key_sha256=name))

    def _push(self, content: str) -> None:
        package = ModelPackage(name=MODEL, runtime=Runtime.ONNX, resources=self.scenario.needs)
        self.plane.do(
            ModelVersionPushed(
                actor="ada", package=package, digest=content, size=1, files=1, source="sim"
            )
        )

    def _unloads(self, cluster: str, key: Key) -> None:
        self.checks.unloads(cluster, key)

    def _is_killed(self, record: RolloutRecord) -> bool:
        if self.quiet or self.dice.random() >= self.chances.killed_at_turn:
            return False
        self.seen["the control plane is killed as it comes to", record.phase] += 1
        return True

    # ------------------------------------------------------------ small parts

    @property
    def chances(self) -> Chances:
        return self.scenario.chances

    def strategy(self) -> RolloutStrategy:
        return self.scenario.strategy(self.dice)

    def say(self, words: str) -> None:
        self.told.append(f"{self.now_s:g}: {words}")

    def moving(self) -> RolloutRecord | None:
        """Return the rollout that goes on."""
        rollouts = self.plane.state.rollouts.values()
        return next((r for r in rollouts if r.moving), None)

    def note(self, what: str) -> None:
        """Count what happens, by the phase of the rollout that goes on."""
        record = self.moving()
        self.seen[what, record.phase if record else "none"] += 1

    def is_cut(self, name: str) -> bool:
        return self.cut_until.get(name, 0.0) > self.now_s

    def is_up(self, version: int) -> bool:
        """Whether all engines serve a version, and nothing else."""
        inside = (self.agents[name] for name in self.scenario.inside)
        return all(set(agent.loaded) == {(MODEL, version)} for agent in inside)

    def is_settled(self, lost: set[str]) -> bool:
        """Whether all but the lost clusters serve what they shall."""
        target = self.plane.state.deployments["d"].target
        rest = (self.agents[name] for name in self.scenario.inside if name not in lost)
        return all(set(agent.loaded) == {(MODEL, target)} for agent in rest)

    # ------------------------------------------------------------ one tick

    def tick(self, lasts_s: float = 1.0) -> None:
        self.now_s += lasts_s
        self.plane.tick(self.now_s)
        while self.network and self.network[0][0] <= self.now_s:
            heapq.heappop(self.network)[2]()
        for name, agent in self.agents.items():
            self._agent(name, agent)
        for router in self.routers.values():
            self._router(router)
        self._clients()
        if self.plane.dead:
            self.restart_plane()
        self.checks.note()

    def later(self, deliver: Callable[[], object]) -> None:
        """Send a message: it may be lost, late or doubled."""
        dice, chances = self.dice, self.chances
        if not self.quiet and dice.random() < chances.lost:
            return
        for _ in range(1 + (not self.quiet and dice.random() < chances.doubled)):
            at = self.now_s + dice.uniform(0.0, chances.slowest_s)
            heapq.heappush(self.network, (at, next(self.numbers), deliver))

    def restart_plane(self) -> None:
        self.say("the control plane is killed")
        self.note("the control plane restarts")
        self.plane.crash()
        self.network.clear()
        self.sent.clear()
        for agent in self.agents.values():
            agent.cut(self.now_s)
        for router in self.routers.values():
            router.connected = False

    # ------------------------------------------------------------ agents

    def _agent(self, name: str, agent: Agent) -> None:
        agent.tick(self.now_s)
        if self.is_cut(name):
            agent.cut(self.now_s)
            return
        if not agent.joined:
            if self.now_s >= agent.session.dial_s:
                self._dial(name, agent)
            return
        assignment = self.plane.assigned.get(name)
        mark = (agent.session.epoch, assignment.generation if assignment else 0)
        if assignment is not None and self.sent.get(name) != mark:
            held = agent.reconciler.assignment
            if held is not None and held.generation >= assignment.generation:
                self.sent[name] = mark
            else:
                self.later(lambda: self._assign(name, mark[0], assignment))
        if (report := agent.report(self.now_s)) is not None:
            self.later(lambda: self._deliver(name, AgentReported(report=report)))

    def _deliver(self, name: str, event: AgentReported) -> None:
        if not self.is_cut(name):
            self.plane.do(event)

    def _assign(self, name: str, epoch: int, assignment: Assignment) -> None:
        agent = self.agents[name]
        if agent.joined and agent.session.epoch == epoch and not self.is_cut(name):
            agent.assign(assignment, self.now_s)

    def _dial(self, name: str, agent: Agent) -> None:
        event = AgentConnected(
            cluster=name,
            instance="i",
            generation=self.plane.state.clusters[name].membership.generation,
            engine=EngineKind.TRITON,
            url=f"https://{name}:7500",
        )
        result = self.plane.do(event)
        if isinstance(result, Welcomed):
            agent.welcome(result.epoch, result.assignment, self.now_s)
        else:
            assert self.plane.dead, "an agent is refused"

    # ------------------------------------------------------------ routers and clients

    def _router(self, router: Router) -> None:
        if router.lost_until > self.now_s:
            return
        plane = self.plane
        if not router.connected:
            event = RouterConnected(
                name=router.name,
                instance=router.instance,
                generation=plane.state.registered_routers[router.name].membership.generation,
                url="",
                reverse_address="",
                location=None,
                software_version="0",
                snapshot_version=router.version,
            )
            router.connected = plane.do(event) is True
        newest, instance = plane.snapshot, router.instance
        if newest.version > router.version:
            self.later(lambda: self._snapshot(router, instance, newest))
        for counted in router.counts(self.now_s, self.counted_every_s):
            self._tell(router, counted)

    def _tell(self, router: Router, event: Event) -> None:
        self.later(partial(self._hear, router, event))

    def _hear(self, router: Router, event: Event) -> None:
        if router.lost_until <= self.now_s:
            self.plane.do(event)

    def under_way(self) -> Iterator[RouterCounted]:
        """Yield what routers counted and the control plane did not hear yet."""
        for _, _, deliver in self.network:
            event = deliver.args[-1] if isinstance(deliver, partial) else None
            if isinstance(event, RouterCounted):
                yield event

    def _snapshot(self, router: Router, instance: str, newest: Snapshot) -> None:
        if router.lost_until > self.now_s or router.instance != instance:
            return
        if self.table.snapshot is not newest:  # both routers make the same of it
            self.table = table.build(newest)
        if router.take(self.table):
            version = router.version
            event = RouterAnswered(name=router.name, instance=instance, snapshot_version=version)
            self._tell(router, event)

    def _clients(self) -> None:
        dice, routers = self.dice, list(self.routers.values())
        for _ in range(self.asks):
            router, client = dice.choice(routers), dice.choice(CLIENTS)
            for tried in router.ask(MODEL, client, self.batch, self.now_s, self._answer):
                self.served.look(tried, self.batch)

    def _answer(self, cluster: str, version: int, size: int) -> Answers | Failed:
        if self.dark_until.get(cluster, 0.0) > self.now_s:
            reason = "it cannot be connected to"
            return Failed(cluster=cluster, ending=Ending.UNREACHABLE, reason=reason, status=502)
        return self.agents[cluster].answer((MODEL, version), size, self.now_s)
