"""How long a step of the control loop takes while many rollouts go on.

Input: numbers of rollouts and clusters. Output: a table: percentiles of the CPU time that one batch
of events takes, with all that follows from it: deciding, settling, the snapshot. Run it with
`python -m benchmarks.rollouts`. Agents obey at once and report each second, three routers count.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from federation.contract.capacity import Capacity
from federation.contract.resources import ClusterSpec, DeploymentSpec, RegionSpec
from federation.contract.rollout import (
    USER_BUCKETS,
    AnalysisSpec,
    RolloutSpec,
    RolloutStrategy,
    VersionCounts,
    Wave,
)
from federation.contract.types import (
    EngineStatus,
    Location,
    Observed,
    ObservedVersion,
    Report,
    VersionState,
)
from federation.policy import snapshot
from federation.policy.decide import decide_among, finish
from federation.policy.events import (
    AgentReported,
    Assign,
    Command,
    Event,
    Outcome,
    PublishSnapshot,
    RegionApplied,
    RouterAnswered,
    TimePassed,
    WakeAt,
)
from federation.policy.rollouts.events import RolloutApplied, RouterCounted
from federation.policy.rollouts.placing import weights_of
from federation.policy.rollouts.records import Phase
from federation.runtime.collector import collect_rarely
from tests.federation.policy.world import ACTOR, World

REGIONS = 10
ROUTERS = ("r1", "r2", "r3")
STRATEGY = RolloutStrategy(
    waves=(
        Wave(regions=("region-0",)),
        Wave(regions=tuple(f"region-{i}" for i in range(1, 4))),
        Wave(regions=("*",)),
    ),
    steps=(10.0, 50.0, 100.0),
    bake_s=30.0,
    analysis=AnalysisSpec(min_requests=50),
)


@dataclass
class Fleet:
    """The control plane with everything around it, and what its steps cost."""

    world: World
    parts: snapshot.Parts
    version: int = 1 << 32
    sequence: int = 0
    wake: datetime | None = None

    def __post_init__(self) -> None:
        self.costs: list[float] = []
        self.obey: set[str] = set()
        self.newest = snapshot.build(self.world.state, self.version)

    def step(self, events: list[Event]) -> None:
        """One batch, as the control loop does it; without the disk."""
        world, began = self.world, time.process_time()
        commands: list[Command] = []
        for event in events:
            outcome: Outcome = decide_among(world.state, event, world.now)
            commands.extend(outcome.commands)
        commands.extend(finish(world.state, world.now))
        if any(isinstance(command, PublishSnapshot) for command in commands):
            new = snapshot.build(world.state, self.version + 1, world.now, self.parts)
            if not snapshot.same_content(new, self.newest):
                self.version += 1
                self.newest = new
            world.state.published = (self.version, world.state.revision)
        for command in commands:
            if isinstance(command, WakeAt):
                self.wake = min(command.at, self.wake or command.at)
        self.costs.append(time.process_time() - began)
        self.obey |= {c.assignment.cluster for c in commands if isinstance(c, Assign)}


def built(rollouts: int, clusters: int) -> World:
    """Return a fleet in which each model serves everywhere at version 1."""
    world = World()
    for index in range(REGIONS):
        place = Location(latitude=float(index), longitude=0.0)
        spec = RegionSpec(location=place)
        world.do(RegionApplied(actor=ACTOR, name=f"region-{index}", spec=spec))
    names = [f"cluster-{index:03}" for index in range(clusters)]
    for index, name in enumerate(names):
        world.cluster(name, spec=ClusterSpec(region=f"region-{index % REGIONS}"), region="region-0")
    for name in ROUTERS:
        world.router(name)
    for index in range(rollouts):
        model = f"model-{index:02}"
        world.push(model, "1")
        world.push(model, "2")
        world.deploy(DeploymentSpec(model=model, version=1), name=model)
    for name in names:
        world.serve(name)
    return world


def report(world: World, name: str) -> AgentReported:
    """Return what the agent of a cluster tells: all it was given is warm."""
    presence, record = world.state.presences[name], world.state.clusters[name]
    versions = tuple(
        ObservedVersion(
            model=v.model,
            version=v.version,
            digest=v.digest,
            state=VersionState.VERIFIED if v.stage_only else VersionState.WARMED,
            replicas=1,
        )
        for v in record.assignment.versions
    )
    observed = Observed(
        observed_generation=record.assignment.generation,
        engine=EngineStatus(kind=world.engines[name], version="2.1", ready=True),
        versions=versions,
    )
    return AgentReported(
        report=Report(
            cluster=name,
            epoch=presence.epoch,
            sequence=presence.sequence + 1,
            capacity=Capacity(),
            observed=observed,
            url=f"https://{name}:7500",
        )
    )


def counts(world: World, seconds: int) -> tuple[VersionCounts, ...]:
    """Return what a router has counted of all models since the beginning."""
    told = []
    for record in world.state.rollouts.values():
        weights = weights_of(record)
        for region in {region for wave in record.entered for region in wave.regions}:
            for version, share in (
                (record.stable, 1 - weights.get(region, 0.0) / 200),
                (record.canary, weights.get(region, 0.0) / 200),
            ):
                requests = int(seconds * 4 * share)
                told.append(
                    VersionCounts(
                        model=record.spec.model,
                        version=version,
                        region=region,
                        requests=(requests,) * USER_BUCKETS,
                        slow=(requests // 100,) * USER_BUCKETS,
                        latency={80: requests * USER_BUCKETS},
                    )
                )
    return tuple(told)


def batches(fleet: Fleet, seconds: int) -> Iterator[list[Event]]:
    """Yield what arrives in one second: reports in batches of 5, counts, answers, time."""
    world = fleet.world
    names = sorted(world.state.clusters)
    for first in range(0, len(names), 5):
        yield [report(world, name) for name in names[first : first + 5]]
    if seconds % 5 == 0:
        fleet.sequence += 1
        told = counts(world, seconds)
        for name in ROUTERS:
            yield [RouterCounted(name=name, instance="i1", sequence=fleet.sequence, counts=told)]
    yield [
        RouterAnswered(name=name, instance="i1", snapshot_version=fleet.version) for name in ROUTERS
    ]
    for _ in range(50):
        if fleet.wake is None or fleet.wake > world.now:
            return
        fleet.wake = None
        yield [TimePassed()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=50)
    parser.add_argument("--clusters", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=240)
    asked = parser.parse_args()
    fleet = Fleet(world=built(asked.rollouts, asked.clusters), parts=snapshot.Parts())
    world = fleet.world
    collect_rarely()  # as the control plane does
    while world.state.unsettled:
        fleet.step([TimePassed()])
    fleet.costs = []
    for index in range(asked.rollouts):
        spec = RolloutSpec(model=f"model-{index:02}", version=2, strategy=STRATEGY)
        fleet.step([RolloutApplied(actor=ACTOR, name="", spec=spec)])
    starting, fleet.costs = fleet.costs, []
    for seconds in range(1, asked.seconds + 1):
        world.now = world.now.fromtimestamp(world.now.timestamp() + 1, tz=world.now.tzinfo)
        for events in batches(fleet, seconds):
            fleet.step(events)
    phases = statistics.multimode(r.phase for r in world.state.rollouts.values())
    over = sum(r.over for r in world.state.rollouts.values())
    promoted = sum(r.phase is Phase.PROMOTED for r in world.state.rollouts.values())
    print(f"{asked.rollouts} rollouts over {asked.clusters} clusters, {len(fleet.costs)} steps")
    for words, costs in (("to start one", starting), ("a step", fleet.costs)):
        cuts = statistics.quantiles(costs, n=1000)
        told = ", ".join(f"p{p:g} {cuts[int(p * 10) - 1] * 1e3:.2f} ms" for p in (50, 99, 99.9))
        print(f"{words:14} {told}, most {max(costs) * 1e3:.2f} ms CPU")
    print(f"{over} are over, {promoted} promoted; most are {', '.join(phases)}")


if __name__ == "__main__":
    main()
