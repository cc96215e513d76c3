"""The policies of others, as this benchmark understands them: models of ideas, not their code.

Input: the world. Output: routers for `world.run`. All of them are told of failures and of clusters
that reports call dead, and never send a request to the same cluster twice.
"""

from collections.abc import Sequence

from benchmarks.policy.world import Job, Router, World

PROBES, POOL, POOL_S, QUANTILE = 3, 16, 1.0, 0.8  # of Prequal, as published


class Base:
    """What all of them keep: own requests in flight, loads as they were told, who is dead."""

    def __init__(self, world: World, region: int) -> None:
        self.world, self.region = world, region
        self.rtt = world.rtt[region]
        self.dice = world.dice
        self.all = range(len(world.clusters))
        self.own = [0] * len(self.all)
        self.then = [0] * len(self.all)
        self.told = [0] * len(self.all)
        self.dead = [False] * len(self.all)
        self.turn = 0
        regions = sorted({(self.rtt[i], world.clusters[i].region) for i in self.all})
        order = list(dict.fromkeys(r for _, r in regions))
        self.rings = [[i for i in self.all if world.clusters[i].region == r] for r in order]

    def choose(self, now: float, job: Job) -> int:
        left = [i for i in self.all if i not in job.failed and not self.dead[i]]
        left = left or [i for i in self.all if i not in job.failed] or list(self.all)
        return self.pick(left, now, job)

    def pick(self, left: Sequence[int], now: float, job: Job) -> int:
        raise NotImplementedError

    def nearest(self, left: Sequence[int]) -> list[int]:
        allowed = set(left)
        return next(ring for r in self.rings if (ring := [i for i in r if i in allowed]))

    def sent(self, cluster: int, now: float, job: Job) -> None:
        self.own[cluster] += 1

    def answered(self, cluster: int, now: float, job: Job, load: int | None) -> None:
        self.own[cluster] -= 1
        if load is not None:
            self.told[cluster], self.then[cluster] = load, self.own[cluster]

    def failed(self, cluster: int, now: float, job: Job, refused: bool) -> None:
        self.own[cluster] -= 1
        self.dead[cluster] |= not refused  # until a report says otherwise

    def report(self, cluster: int, load: int, alive: bool, now: float) -> None:
        self.told[cluster], self.then[cluster] = load, self.own[cluster]
        self.dead[cluster] = not alive

    def load(self, i: int) -> int:
        return max(self.told[i] + self.own[i] - self.then[i], self.own[i])

    def two(self, left: Sequence[int]) -> Sequence[int]:
        return self.dice.sample(left, 2) if len(left) > 1 else left


class Nearest(Base):
    """The nearest region, its clusters in turn (GeoDNS, locality weights)."""

    def pick(self, left: Sequence[int], now: float, job: Job) -> int:
        self.turn += 1
        near = self.nearest(left)
        return near[self.turn % len(near)]


class RoundRobin(Base):
    """All clusters in turn."""

    def pick(self, left: Sequence[int], now: float, job: Job) -> int:
        self.turn += 1
        return left[self.turn % len(left)]


class TwoChoices(Base):
    """The less loaded of two, by own requests in flight per slot."""

    def pick(self, left: Sequence[int], now: float, job: Job) -> int:
        clusters = self.world.clusters
        return min(self.two(left), key=lambda i: self.own[i] / clusters[i].slots)


class PeakEwma(Base):
    """The less of two by latency (which peaks at once, and decays) times requests in flight."""

    def __init__(self, world: World, region: int) -> None:
        super().__init__(world, region)
        self.cost = [self.rtt[i] + world.mean_work / world.clusters[i].speed for i in self.all]

    def pick(self, left: Sequence[int], now: float, job: Job) -> int:
        return min(self.two(left), key=lambda i: self.cost[i] * (self.own[i] + 1))

    def answered(self, cluster: int, now: float, job: Job, load: int | None) -> None:
        super().answered(cluster, now, job, load)
        took, cost = now - job.sent, self.cost[cluster]
        self.cost[cluster] = took if took > cost else cost + 0.1 * (took - cost)


class Prequal(Base):
    """Asynchronous probes into a pool; of those below a quantile of requests in flight ("cold")
    the least latency plus round trip, else the least in flight. A probe is used once or twice."""

    def __init__(self, world: World, region: int) -> None:
        super().__init__(world, region)
        self.pool: list[tuple[float, int, float, float]] = []  # when, cluster, busy, latency

    def pick(self, left: Sequence[int], now: float, job: Job) -> int:
        for i in self.dice.sample(left, min(PROBES, len(left))):
            self._probe(i, now)
        allowed = set(left)
        self.pool = [p for p in self.pool if now - p[0] < POOL_S and p[1] in allowed][-POOL:]
        if len(self.pool) < 2:
            return self.dice.choice(left)
        edge = sorted(p[2] for p in self.pool)[int(len(self.pool) * QUANTILE)]
        cold = [p for p in self.pool if p[2] <= edge]
        best = min(cold, key=lambda p: self.rtt[p[1]] + p[3])
        at, i, busy, latency = best
        self.pool.remove(best)
        if self.dice.random() < 0.5:  # reused, as if it had one request more
            self.pool.append((at, i, busy + 1 / self.world.clusters[i].slots, latency))
        return i

    def _probe(self, i: int, now: float) -> None:
        cluster, mean, rtt = self.world.clusters[i], self.world.mean_work, self.rtt[i]

        def there(then: float) -> None:
            n = 0 if cluster.lies else cluster.n
            found = (n / cluster.slots, cluster.latency(mean))
            self.world.later(then + rtt / 2, lambda at: self.pool.append((at, i, *found)))

        if not cluster.dead:
            self.world.later(now + rtt / 2, there)


class Spill(Base):
    """The nearest region where something has a free slot; the own one if nothing has."""

    def pick(self, left: Sequence[int], now: float, job: Job) -> int:
        allowed, clusters = set(left), self.world.clusters
        for ring in self.rings:
            free = [i for i in ring if i in allowed and self.load(i) < self.slots(i)]
            if free:
                return min(free, key=lambda i: self.load(i) / clusters[i].slots)
        return min(self.nearest(left), key=lambda i: self.load(i) / clusters[i].slots)

    def slots(self, i: int) -> int:
        cluster = self.world.clusters[i]
        return cluster.slots * 10 if cluster.lies else cluster.slots


class Widen(Spill):
    """Waits at the router for a free slot; the longer, the further away it looks."""

    def pick(self, left: Sequence[int], now: float, job: Job) -> int:
        allowed, waited = set(left), now - job.began
        for ring in self.rings:
            if self.rtt[ring[0]] > 0.01 + waited * 2:
                break
            free = [i for i in ring if i in allowed and self.load(i) < self.slots(i)]
            if free:
                return min(free, key=lambda i: self.load(i) / self.slots(i))
        return -1


class Oracle(Base):
    """Sees every queue and every speed now, and what is on its way."""

    def choose(self, now: float, job: Job) -> int:
        clusters, mean = self.world.clusters, self.world.mean_work
        left = [i for i in self.all if not clusters[i].dead] or list(self.all)
        best, least = left[0], float("inf")
        for i in left:
            c = clusters[i]
            beyond = max(0, c.n + 1 - c.slots) / c.slots
            score = self.rtt[i] + mean / c.rate(now) * (1 + beyond)
            if score < least:
                best, least = i, score
        return best


RIVALS: dict[str, type[Base]] = {
    "nearest": Nearest,
    "round robin": RoundRobin,
    "two choices": TwoChoices,
    "peak EWMA": PeakEwma,
    "Prequal + RTT": Prequal,
    "spill when full": Spill,
    "wait and widen": Widen,
}


def make(name: str) -> "type[Router]":
    """Return a rival's class."""
    return RIVALS[name]
