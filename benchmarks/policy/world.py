"""The model: regions, clusters, routers with a policy each, and time that passes by events.

Input: a fleet, a stream of requests, a scenario and a policy. Output: what each request took, and
how full the clusters were. A cluster works on as many requests at once as it has slots, the others
wait in the order in which they came. What a router knows came over the network and is as old.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.policy.inputs import Fleet, arrivals

ASK_AGAIN_S = 0.05
ATTEMPTS = 3
GIVEN_UP_S = 60.0
SLOWED_S, SLOWED_TEXT_S = 4.0, 20.0  # fifteen times as long between
LIMIT = 32  # times its slots: what a cluster declares to take; it refuses more


@dataclass(frozen=True, slots=True)
class Scenario:
    """What goes wrong. Times of reports in seconds."""

    name: str = "steady"
    report_s: float = 1.0
    piggy_back: bool = True
    antagonists: bool = True  # each cluster is slowed to a quarter for 4 s about once a minute
    fail_slow: bool = False  # one cluster a region is ten times slower for a fifth of the run
    region_loss: bool = False  # the busiest region is dead for a fifth of the run
    liars: float = 0.0  # this share of the clusters says that it is idle and ten times as large


class Cluster:
    """One cluster's queue."""

    __slots__ = (
        "busy",
        "dead",
        "fast",
        "lies",
        "limit",
        "most",
        "n",
        "queue",
        "region",
        "seen",
        "slots",
        "slow_until",
        "speed",
    )

    def __init__(self, region: int, slots: int, speed: float) -> None:
        self.region, self.slots, self.speed = region, slots, speed
        self.fast = 1.0
        self.slow_until = 0.0
        self.dead = False
        self.lies = False
        self.busy = 0
        self.n = 0  # here; for the oracle also those on their way
        self.most = 0
        self.limit = LIMIT * slots
        self.queue: deque[Job] = deque()
        self.seen: dict[int, float] = {}  # latency here by requests at arrival, as Prequal keeps it

    def rate(self, now: float) -> float:
        """Return how fast it is now."""
        return self.speed * self.fast * (0.25 if now < self.slow_until else 1.0)

    def saw(self, job: "Job", now: float) -> None:
        """Keep the latency of a request that ends, by how many it met."""
        before, took = self.seen.get(job.met), now - job.came
        self.seen[job.met] = took if before is None else before + 0.2 * (took - before)

    def latency(self, mean: float) -> float:
        """Return the latency seen at about as many requests as there are now."""
        for off in (0, 1, -1, 2, -2, 3, -3):
            if (found := self.seen.get(self.n + off)) is not None:
                return found
        return mean / self.speed * max(1.0, self.n / self.slots)


class Job:
    """One request."""

    __slots__ = (
        "attempts",
        "began",
        "came",
        "cluster",
        "failed",
        "met",
        "region",
        "sent",
        "token",
        "work",
    )

    def __init__(self, region: int, work: float, began: float) -> None:
        self.region, self.work, self.began = region, work, began
        self.cluster = -1
        self.sent = 0.0
        self.came = 0.0
        self.met = 0
        self.attempts = 0
        self.failed: tuple[int, ...] = ()
        self.token: object = None


class Router(Protocol):
    """A policy at one region."""

    def choose(self, now: float, job: Job) -> int:
        """Return a cluster, -1 = ask again soon, -2 = refuse."""
        ...

    def sent(self, cluster: int, now: float, job: Job) -> None:
        """It is on its way."""
        ...

    def answered(self, cluster: int, now: float, job: Job, load: int | None) -> None:
        """An answer arrived."""
        ...

    def failed(self, cluster: int, now: float, job: Job, refused: bool) -> None:
        """It did not answer, or refused."""
        ...

    def report(self, cluster: int, load: int, alive: bool, now: float) -> None:
        """News of a cluster, half a round trip old."""
        ...


@dataclass(slots=True)
class World:
    """What policies are made for; the oracle looks into the clusters."""

    fleet: Fleet
    clusters: list[Cluster]
    rtt: list[list[float]]
    dice: random.Random
    mean_work: float
    later: Callable[[float, Callable[[float], None]], None]  # calls back at a moment


@dataclass(slots=True)
class Outcome:
    """What one run showed. Times in seconds, of the requests after the first tenth."""

    took: list[float] = field(default_factory=list)
    failed: int = 0  # answered with an error, after all attempts
    refused: int = 0  # attempts that a cluster refused
    attempts: int = 0
    crossed: int = 0
    fullest: float = 0.0  # the most requests at once at a cluster, as a share of what it takes
    share: float = 0.0  # the largest share of all requests that one liar got


MakeRouter = Callable[[World, int], Router]


def run(  # noqa: C901  # one loop, a branch for each kind of event
    make: MakeRouter,
    fleet: Fleet,
    scenario: Scenario,
    *,
    trace: str,
    load: float,
    count: int,
    seed: int,
    oracle: bool = False,
) -> Outcome:
    """Run one policy through one cell."""
    dice = random.Random(seed * 7919 + 1)
    requests = arrivals(trace, fleet, load, count, seed)
    rtt = fleet.rtt_s()
    clusters = [Cluster(s.region, s.slots, s.speed) for s in fleet.sites]
    mean_work = sum(w for _, _, w in requests) / len(requests)
    end = requests[-1][0]
    if scenario.liars:
        for c in dice.sample(clusters, max(1, round(scenario.liars * len(clusters)))):
            c.lies = True
    out = Outcome()
    slowed_s = SLOWED_S if trace == "tensor" else SLOWED_TEXT_S
    events: list[tuple[float, int, str, object, object]] = []
    number = 0

    def at(when: float, what: str, one: object = None, two: object = None) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, what, one, two))

    def later(when: float, call: Callable[[float], None]) -> None:
        at(when, "call", call)

    world = World(fleet, clusters, rtt, random.Random(seed), mean_work, later)
    routers = [make(world, region) for region in range(len(fleet.regions))]
    here = [[i for i, c in enumerate(clusters) if c.region == r] for r in range(len(routers))]
    for r in range(len(routers)):
        for q in range(len(routers)):
            if here[q]:
                at(dice.random() * scenario.report_s, "report", r, q)
    if scenario.antagonists:
        for c in clusters:
            at(dice.expovariate(1 / (15 * slowed_s)), "slow", c)
    if scenario.fail_slow:
        for r in range(len(routers)):
            for c in here[r][-1:] if len(here[r]) > 1 or r % 6 == 0 else ():
                at(end * 0.4, "sick", clusters[c], 0.1)
                at(end * 0.6, "sick", clusters[c], 1.0)
    if scenario.region_loss:
        busiest = max(range(len(routers)), key=lambda r: fleet.demand[r])
        at(end * 0.4, "dead", busiest, True)
        at(end * 0.6, "dead", busiest, False)
    at(requests[0][0], "arrive", 0)
    skip = end * 0.1
    open_ = [len(requests)]  # requests that are not answered yet
    got = [0] * len(clusters)

    def send(job: Job, now: float) -> None:
        router = routers[job.region]
        index = router.choose(now, job)
        if index == -1 and now - job.began < GIVEN_UP_S:
            at(now + ASK_AGAIN_S, "again", job)
            return
        if index < 0:
            out.failed += 1
            open_[0] -= 1
            out.took.append(GIVEN_UP_S)
            return
        job.cluster, job.sent = index, now
        job.attempts += 1
        out.attempts += 1
        got[index] += 1
        router.sent(index, now, job)
        cluster = clusters[index]
        if oracle:
            cluster.n += 1
        out.crossed += cluster.region != job.region
        at(now + rtt[job.region][index] / 2, "in", job)

    def start(cluster: Cluster, job: Job, now: float) -> None:
        cluster.busy += 1
        at(now + job.work / cluster.rate(now), "done", job)

    def lost(job: Job, now: float, refused: bool) -> None:
        routers[job.region].failed(job.cluster, now, job, refused)
        job.failed += (job.cluster,)
        if job.attempts >= ATTEMPTS:
            out.failed += 1
            open_[0] -= 1
            out.took.append(GIVEN_UP_S)
        else:
            send(job, now)

    while events:
        now, _, what, one, two = heapq.heappop(events)
        if what == "arrive":
            _, region, work = requests[one]
            send(Job(region, work, now), now)
            if one + 1 < len(requests):
                at(requests[one + 1][0], "arrive", one + 1)
        elif what == "again":
            send(one, now)
        elif what == "in":
            cluster = clusters[one.cluster]
            if cluster.dead or (not oracle and cluster.n >= cluster.limit):
                if oracle:
                    cluster.n -= 1
                at(now + rtt[one.region][one.cluster] / 2, "lost", one, not cluster.dead)
                continue
            if not oracle:
                cluster.n += 1
            cluster.most = max(cluster.most, cluster.n)
            one.came, one.met = now, cluster.n
            if cluster.busy < cluster.slots:
                start(cluster, one, now)
            else:
                cluster.queue.append(one)
        elif what == "done":
            cluster = clusters[one.cluster]
            if cluster.dead:
                continue
            cluster.busy -= 1
            cluster.n -= 1
            cluster.saw(one, now)
            if cluster.queue:
                start(cluster, cluster.queue.popleft(), now)
            load_told = (0 if cluster.lies else cluster.n) if scenario.piggy_back else None
            at(now + rtt[one.region][one.cluster] / 2, "back", one, load_told)
        elif what == "back":
            routers[one.region].answered(one.cluster, now, one, two)
            open_[0] -= 1
            if one.began > skip:
                out.took.append(now - one.began)
        elif what == "lost":
            lost(one, now, two)
            out.refused += bool(two)
        elif what == "report":
            for i in here[two]:
                c = clusters[i]
                at(now + rtt[one][i] / 2, "news", one, (i, 0 if c.lies else c.n, not c.dead))
            if now < end or open_[0]:
                at(now + scenario.report_s, "report", one, two)
        elif what == "news":
            routers[one].report(*two, now)
        elif what == "call":
            one(now)
        elif what == "slow":
            one.slow_until = now + slowed_s
            if now < end:
                at(now + dice.expovariate(1 / (15 * slowed_s)), "slow", one)
        elif what == "sick":
            one.fast = two
        elif what == "dead":
            for i in here[one]:
                c = clusters[i]
                c.dead = two
                if two:
                    running = [e[3] for e in events if e[2] == "done" and e[3].cluster == i]
                    for job in [*running, *c.queue]:
                        at(now + rtt[job.region][i] / 2, "lost", job, False)
                    events[:] = [e for e in events if e[2] != "done" or e[3].cluster != i]
                    heapq.heapify(events)
                    c.queue.clear()
                    c.busy = c.n = 0
    out.fullest = max(c.most / c.limit for c in clusters)
    out.share = (
        max((g for g, c in zip(got, clusters, strict=True) if c.lies), default=0) / out.attempts
    )
    return out
