"""The router's own decision as a policy of the model: the very classes, nothing made for it.

Input: the world. Output: a router for `world.run`: it is told what `proxy` and `probe` tell.
"""

import random

from benchmarks.policy.world import Job, World
from federation.contract.types import Endpoint, ModelRoute, Replica, Snapshot
from router.policy import table as tables
from router.policy.pick import Question, decide
from router.policy.signals import Attempt, Ending, Signals


class Ours:
    """One router."""

    def __init__(self, world: World, region: int) -> None:
        names = [f"c{i}" for i in range(len(world.clusters))]
        self.index = {name: i for i, name in enumerate(names)}
        self.names = names
        self.rtt = world.rtt[region]
        self.signals = Signals(seed=region)
        self.dice = random.Random(region * 31 + 7)
        self.table = tables.build(_snapshot(world, names))
        self.signals.retain({name: e.url for name, e in self.table.endpoints.items()})
        self.resolved = self.table.resolve("m")
        for i, name in enumerate(names):
            self.signals.probed(name, self.rtt[i] * 1000, "", 0.0)

    def choose(self, now: float, job: Job) -> int:
        failed = [self.names[i] for i in job.failed]
        question = Question(resolved=self.resolved, now_s=now, failed=failed)
        chosen = decide(self.table, self.signals, question, self.dice).chosen
        return -2 if chosen is None else self.index[chosen.cluster]

    def sent(self, cluster: int, now: float, job: Job) -> None:
        job.token = self.signals.begin(self.names[cluster], "m", 1, now)

    def answered(self, cluster: int, now: float, job: Job, load: int | None) -> None:
        attempt = job.token
        assert isinstance(attempt, Attempt)
        attempt.first_byte((now - job.sent) * 1000, load, now)
        attempt.end(Ending.ANSWERED, "", now)

    def failed(self, cluster: int, now: float, job: Job, refused: bool) -> None:
        attempt = job.token
        assert isinstance(attempt, Attempt)
        if refused:
            attempt.end(Ending.REFUSED, "saturated", now)
        else:
            attempt.end(Ending.UNREACHABLE, "reset", now)

    def report(self, cluster: int, load: int, alive: bool, now: float) -> None:
        name = self.names[cluster]
        if alive:
            self.signals.probed(name, self.rtt[cluster] * 1000, "", now, {("m", 1): load})
        else:
            self.signals.probed(name, None, "silent", now)


def _snapshot(world: World, names: list[str]) -> Snapshot:
    return Snapshot(
        version=1,
        models=(ModelRoute(name="m", default_version=1),),
        endpoints=tuple(
            Endpoint(cluster=n, region=world.fleet.regions[c.region], url=f"http://{n}:1")
            for n, c in zip(names, world.clusters, strict=True)
        ),
        replicas=tuple(
            Replica(
                model="m",
                version=1,
                cluster=n,
                concurrency=c.slots * (10 if c.lies else 1),
                latency_ms=world.mean_work / c.speed * 1000,
            )
            for n, c in zip(names, world.clusters, strict=True)
        ),
    )
