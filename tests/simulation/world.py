"""Rollouts in a whole federation on a virtual clock: people, agents, routers and a bad network.

Input: a seed. Output: nothing, or an AssertionError that names the invariant, the moment and the
seed. One tick is a second.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

from federation.contract.package import ModelPackage
from federation.contract.resources import ClusterSpec, DeploymentSpec, RegionSpec, RouterSpec
from federation.contract.rollout import (
    AnalysisSpec,
    FreezeWindow,
    OnInconclusive,
    RolloutSpec,
    RolloutStrategy,
    Wave,
)
from federation.contract.spiffe import PeerRole
from federation.contract.types import Assignment, EngineKind, Location, Runtime
from federation.policy.events import (
    AgentConnected,
    AgentDisconnected,
    AgentReported,
    ClusterRegistered,
    DeploymentApplied,
    ModelVersionPushed,
    RegionApplied,
    RouterAnswered,
    RouterConnected,
    RouterDisconnected,
    Welcomed,
)
from federation.policy.membership.events import PeerJoined, RouterRegistered
from federation.policy.rollouts.events import RolloutApplied, RolloutSteered, RolloutUndone, Verb
from federation.policy.rollouts.records import Pause, Phase
from tests.simulation.agents import Agent, Temper
from tests.simulation.checks import Checks
from tests.simulation.plane import Plane
from tests.simulation.routers import Router

MODEL = "m"
PLACES = {"eu1": "eu", "eu2": "eu", "us1": "us", "us2": "us", "ap1": "ap", "cn1": "cn"}
INSIDE = ("eu", "us", "ap")  # the residency of the model
CHAOS_S, END_S = 240, 1_500
BAD = ("fails", "crashes at once", "crashes later", "wrong")


@dataclass(slots=True)
class Chances:
    """What happens in a tick, and how often."""

    lost: float = 0.1
    doubled: float = 0.1
    slowest_s: float = 3.0
    agent_restart: float = 0.004
    router_restart: float = 0.004
    plane_crash: float = 0.01
    region_lost: float = 0.004
    person: float = 0.05


@dataclass(slots=True)
class World:
    seed: int
    chances: Chances = field(default_factory=Chances)
    dice: random.Random = field(init=False)
    plane: Plane = field(default_factory=Plane)
    temper: Temper = field(default_factory=Temper)
    agents: dict[str, Agent] = field(default_factory=dict)
    routers: dict[str, Router] = field(default_factory=dict)
    cut_until: dict[str, float] = field(default_factory=dict)  # by region
    network: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    numbers: count = field(default_factory=count)  # type: ignore[type-arg]
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    now_s: float = 0.0
    people: bool = True
    fault: str = ""
    told: list[str] = field(default_factory=list)
    checks: Checks = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self._build()
        self.checks = Checks(self)
        self.plane.after = self.checks.look

    # ------------------------------------------------------------ before it begins

    def _build(self) -> None:
        plane = self.plane
        for region in dict.fromkeys(PLACES.values()):
            spec = RegionSpec(location=Location(latitude=1.0, longitude=2.0))
            plane.do(RegionApplied(actor="ada", name=region, spec=spec))
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
            self.agents[name] = Agent(name, self.temper, self.dice)
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
            self.push(content)
        plane.do(DeploymentApplied(actor="ada", name="d", spec=self.wish(1)))

    def _join(self, role: PeerRole, name: str) -> None:
        self.plane.do(PeerJoined(role=role, name=name, token_sha256=name, key_sha256=name))

    def push(self, content: str) -> None:
        package = ModelPackage(name=MODEL, runtime=Runtime.ONNX)
        self.plane.do(
            ModelVersionPushed(
                actor="ada", package=package, digest=content, size=1, files=1, source="sim"
            )
        )

    def strategy(self) -> RolloutStrategy:
        dice = self.dice
        waves = dice.choice(
            (
                (),
                (Wave(regions=("eu",)), Wave(regions=("*",))),
                (Wave(regions=("ap",)), Wave(regions=("eu", "us"), approval=True)),
                (Wave(regions=("eu",)), Wave(regions=("us",)), Wave(regions=("*",))),
                (Wave(clusters=("eu1",)), Wave(clusters=("eu2", "us1")), Wave(regions=("*",))),
            )
        )
        steps = dice.choice(((100.0,), (5.0, 100.0), (10.0, 50.0, 100.0)))
        judged = self.fault == "wrong" or dice.random() < 0.3
        analysis = AnalysisSpec(
            enabled=judged, max_bake_s=25.0, on_inconclusive=OnInconclusive.PROMOTE
        )
        bake_s = 20.0 if self.fault == "crashes later" else dice.choice((0.0, 3.0, 20.0))
        return RolloutStrategy(waves=waves, steps=steps, bake_s=bake_s, analysis=analysis)

    # ------------------------------------------------------------ one tick

    def tick(self) -> None:
        self.now_s += 1.0
        self.plane.tick(self.now_s)
        while self.network and self.network[0][0] <= self.now_s:
            heapq.heappop(self.network)[2]()
        for name, agent in self.agents.items():
            self._agent(name, agent)
        for router in self.routers.values():
            self._router(router)
        self.checks.note()

    def later(self, deliver: Callable[[], object], *, sure: bool = False) -> None:
        """Send a message: it may be lost, late or doubled."""
        if not sure and self.dice.random() < self.chances.lost:
            return
        for _ in range(1 + (self.dice.random() < self.chances.doubled)):
            at = self.now_s + self.dice.uniform(0.0, self.chances.slowest_s)
            heapq.heappush(self.network, (at, next(self.numbers), deliver))

    def is_cut(self, name: str) -> bool:
        return self.cut_until.get(PLACES.get(name, ""), 0.0) > self.now_s

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
        assert isinstance(result, Welcomed)
        agent.welcome(result.epoch, result.assignment, self.now_s)

    def _router(self, router: Router) -> None:
        plane = self.plane
        if not router.connected:
            event = RouterConnected(
                name=router.name,
                instance=str(router.instance),
                generation=plane.state.registered_routers[router.name].membership.generation,
                url="",
                reverse_address="",
                location=None,
                software_version="0",
                snapshot_version=router.version,
            )
            router.connected = plane.do(event) is True
        newest = plane.snapshot
        if newest.version > router.version:
            instance = router.instance
            self.later(lambda: self._snapshot(router, instance, newest))
        self.checks.ask(router)

    def _snapshot(self, router: Router, instance: int, newest: object) -> None:
        if router.instance != instance or not router.take(newest):  # type: ignore[arg-type]
            return
        event = RouterAnswered(
            name=router.name, instance=str(instance), snapshot_version=router.version
        )
        self.later(lambda: self.plane.do(event))

    # ------------------------------------------------------------ what goes wrong

    def chaos(self) -> None:
        dice, chances = self.dice, self.chances
        for agent in self.agents.values():
            if dice.random() < chances.agent_restart:
                self.say(f"agent {agent.name} restarts")
                agent.start(self.now_s)
        for router in self.routers.values():
            if dice.random() < chances.router_restart:
                self.say(f"router {router.name} restarts")
                self.plane.do(RouterDisconnected(name=router.name, instance=str(router.instance)))
                router.restart()
        if dice.random() < chances.plane_crash:
            self.crash_plane()
        if dice.random() < chances.region_lost:
            region = dice.choice(INSIDE)
            lasts = dice.choice((5.0, 20.0, 90.0))
            self.say(f"{region} is lost for {lasts:g} s")
            self.cut_until[region] = self.now_s + lasts
            for name, place in PLACES.items():
                if place == region and dice.random() < 0.5:
                    self.agents[name].cut(self.now_s)
                    epoch = self.plane.state.presences[name].epoch
                    self.plane.do(AgentDisconnected(cluster=name, epoch=epoch))
        if self.people and dice.random() < chances.person:
            self.intervene()

    def crash_plane(self) -> None:
        self.say("the control plane is killed")
        self.plane.crash()
        self.network.clear()
        self.sent.clear()
        for agent in self.agents.values():
            agent.cut(self.now_s)
        for router in self.routers.values():
            router.connected = False

    def intervene(self) -> None:
        dice, what = self.dice, self.dice.randrange(12)
        if what < 5:
            verb = list(Verb)[what]
            full = dice.random() < 0.3
            self.say(f"{verb}{' --full' if full else ''}")
            self.plane.do(RolloutSteered(actor="eve", name=MODEL, verb=verb, full=full))
        elif what == 5:
            self.say("undo")
            self.plane.do(RolloutUndone(actor="eve", model=MODEL))
        elif what == 6:
            self.freeze(dice.choice(INSIDE), minutes=dice.choice((0, 3, 5)))
        elif what == 7:
            strategy = dice.choice((None, self.strategy()))
            version = dice.choice((1, 2, 3) if strategy else (1, 2))  # 3 cannot serve
            self.say(f"wish {version}{'' if strategy else ' everywhere at once'}")
            self.plane.do(
                DeploymentApplied(actor="eve", name="d", spec=self.wish(version, strategy))
            )
        else:
            self.start(dice.choice((1, 2, 3)))

    def freeze(self, region: str, *, minutes: int) -> None:
        self.say(f"{region} is frozen for the first {minutes} minutes of the day")
        window = FreezeWindow(start="00:00", end=f"00:0{minutes}")
        spec = RegionSpec(
            location=Location(latitude=1.0, longitude=2.0), freeze=(window,) if minutes else ()
        )
        self.plane.do(RegionApplied(actor="eve", name=region, spec=spec))

    def wish(self, version: int, strategy: RolloutStrategy | None = None) -> DeploymentSpec:
        return DeploymentSpec(
            model=MODEL, version=version, regions=INSIDE, residency=INSIDE, rollout=strategy
        )

    def start(self, version: int) -> bool:
        spec = RolloutSpec(model=MODEL, version=version, strategy=self.strategy())
        done = self.plane.do(RolloutApplied(actor="ada", name="", spec=spec)) is not None
        self.say(f"start {version}: {'accepted' if done else 'refused'}")
        return done

    def spoil(self, model: str, version: int, fault: str) -> None:
        """Have something wrong with a version."""
        self.fault = fault
        match fault:
            case "fails":
                self.temper.fails.add((model, version))
            case "crashes at once":
                self.temper.crashes[model, version] = 0.0
            case "crashes later":
                self.temper.crashes[model, version] = 6.0
            case _:
                self.temper.wrong.add((model, version))

    def say(self, words: str) -> None:
        self.told.append(f"{self.now_s:g}: {words}")

    # ------------------------------------------------------------ a run

    def settle_in(self) -> None:
        """Let version 1 come up everywhere, on a good network."""
        good, self.chances = self.chances, replace(self.chances, lost=0.0, doubled=0.0)
        for _ in range(60):
            self.tick()
            if self.is_up(1):
                break
        else:
            raise AssertionError(f"version 1 did not come up (seed {self.seed})")
        self.chances = good

    def is_up(self, version: int) -> bool:
        wanted = {(MODEL, version)}
        inside = [a for n, a in self.agents.items() if PLACES[n] in INSIDE]
        return all(set(agent.loaded) == wanted for agent in inside)

    def run(self) -> None:
        """Chaos for a while, then peace until nothing goes on."""
        self.settle_in()
        assert self.start(2)
        while self.now_s < CHAOS_S:
            self.tick()
            self.chaos()
        self.cut_until.clear()
        while self.plane.state.going:
            assert self.now_s < END_S, "a rollout never ends"
            self.tick()
            self._let_go_on()
        for _ in range(120):
            self.tick()
        self.checks.at_the_end()

    def _let_go_on(self) -> None:
        """People do what they are asked for."""
        for record in list(self.plane.state.rollouts.values()):
            if record.phase is not Phase.PAUSED:
                continue
            verb = Verb.APPROVE if record.pause is Pause.GATE else Verb.RESUME
            name = record.meta.name
            self.plane.do(RolloutSteered(actor="eve", name=name, verb=verb))
