"""What a routing snapshot costs a router that serves requests meanwhile.

Run as `python -m benchmarks.snapshot`; see --help. Output: CPU milliseconds to read, index and put
to use a snapshot, and the longest that the loop was away from its other work (CPU time: what other
processes take does not count). `all new` is the first one of a process, `one new` what a report of
one cluster changes, `1 % new` a fleet that moves, `again` the same once more.
"""

import argparse
import asyncio
import gc
import random
import time
from dataclasses import dataclass, replace

from federation.contract.codec_snapshots import SnapshotWriter
from federation.contract.types import Endpoint, Location, ModelRoute, Replica, Snapshot
from federation.contract.v1 import federation_pb2 as pb
from federation.runtime.clock import SystemClock
from router.membership.applying import Applier
from router.policy.table import Reach
from router.state import RouterState
from router.upstream.http import Upstreams


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one snapshot, in CPU milliseconds; `stall_ms` is the longest slice."""

    cpu_ms: float
    stall_ms: float


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshot", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--replicas", type=int, default=2, help="of each endpoint")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def fleet(endpoints: int, models: int, replicas: int) -> Snapshot:
    """Return a snapshot of the first version."""
    names = [f"cluster-{n:05}" for n in range(endpoints)]
    return Snapshot(
        version=1,
        models=tuple(ModelRoute(name=f"model-{n}", default_version=1) for n in range(models)),
        endpoints=tuple(
            Endpoint(
                cluster=name,
                region=f"region-{n % 46}",
                url=f"https://{name}.example.net:8443",
                location=Location(latitude=n % 80 + 0.5, longitude=n % 170 + 0.5),
            )
            for n, name in enumerate(names)
        ),
        replicas=tuple(
            Replica(
                model=f"model-{(n * 7 + k) % models}",
                version=1,
                cluster=name,
                concurrency=8,
                latency_ms=12.5,
            )
            for n, name in enumerate(names)
            for k in range(replicas)
        ),
    )


def moved(snapshot: Snapshot, count: int, dice: random.Random) -> Snapshot:
    """Return the next version, in which `count` endpoints and as many replicas are others."""
    endpoints, replicas = list(snapshot.endpoints), list(snapshot.replicas)
    for n in dice.sample(range(len(endpoints)), count):
        endpoints[n] = replace(endpoints[n], present=not endpoints[n].present)
    for n in dice.sample(range(len(replicas)), count):
        replicas[n] = replace(replicas[n], concurrency=replicas[n].concurrency + 1)
    version = snapshot.version + 1
    return replace(snapshot, version=version, endpoints=tuple(endpoints), replicas=tuple(replicas))


class Watch:
    """A task that wants a turn as often as it can get one, and notes how long it was kept off."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def run(self) -> None:
        """Look at the CPU clock until cancelled."""
        before = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            self.longest_s = max(self.longest_s, now - before)
            before = now


class Router:
    """What of a router a snapshot concerns."""

    def __init__(self) -> None:
        self.state = RouterState(name="r", clock=SystemClock(), dice=random.Random(1))
        self.state.reach = Reach(secure=True)
        upstreams = Upstreams()
        self.state.on_swap.append(lambda table: upstreams.follow(table.endpoints))
        self.applier = Applier(self.state)
        self.writer = SnapshotWriter()

    def wire(self, snapshot: Snapshot) -> bytes:
        """Return what the control plane sends."""
        return self.writer.instruction(snapshot)

    async def apply(self, message: bytes) -> Cost:
        """Apply what came, with somebody beside it who wants to work."""
        watch = Watch()
        watching = asyncio.get_running_loop().create_task(watch.run())
        await asyncio.sleep(0)
        watch.longest_s, started_s = 0.0, time.process_time()
        await self.applier.apply(pb.RouterInstructionParts.FromString(message).snapshot)
        cpu_s = time.process_time() - started_s
        watching.cancel()
        return Cost(cpu_s * 1000, watch.longest_s * 1000)


async def measure(options: argparse.Namespace) -> dict[str, list[Cost]]:
    """Return the costs of all rounds, by kind."""
    dice, found = random.Random(7), dict[str, list[Cost]]()
    for _ in range(options.rounds):
        router = Router()
        snapshot = fleet(options.endpoints, options.models, options.replicas)
        few = max(options.endpoints // 100, 1)
        for kind, count in (("all new", 0), ("again", 0), ("one new", 1), ("1 % new", few)):
            snapshot = moved(snapshot, count, dice)
            message = router.wire(snapshot)
            found.setdefault(kind, []).append(await router.apply(message))
        del router
        gc.collect()
    return found


def main() -> None:
    chosen = options()
    found = asyncio.run(measure(chosen))
    print(f"{chosen.endpoints} endpoints, {chosen.replicas} replicas each, {chosen.models} models")
    heads = ("CPU ms: least", "median", "longest slice ms: median", "most")
    print(f"{'snapshot':<12}" + "".join(f"{head:>{len(head) + 3}}" for head in heads))
    for kind, costs in found.items():
        cpu = sorted(c.cpu_ms for c in costs)
        stall = sorted(c.stall_ms for c in costs)
        middle = len(costs) // 2
        shown = (cpu[0], cpu[middle], stall[middle], stall[-1])
        row = (f"{n:>{len(h) + 3}.1f}" for h, n in zip(heads, shown, strict=True))
        print(f"{kind:<12}" + "".join(row))


if __name__ == "__main__":
    main()
