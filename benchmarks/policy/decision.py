"""What a decision costs: `python -m benchmarks.policy.decision`.

Input: nothing. Output: CPU µs a decision, the least of some rounds, with few and with many replicas
of a model, and that of a fixed loop beside it, to compare machines by.
"""

import random
import time

from federation.contract.types import Endpoint, ModelRoute, Replica, Snapshot
from router.policy import table as tables
from router.policy.decision import Question
from router.policy.pick import decide
from router.policy.signals import Signals

ROUNDS, DECISIONS, APART_S = 12, 2000, 1e-4  # ten thousand requests a second


def world(replicas: int) -> tuple[tables.RoutingTable, Signals]:
    """Return a model on so many clusters, as a router knows it after a probe of each."""
    names = [f"c{i}" for i in range(replicas)]
    snapshot = Snapshot(
        version=1,
        models=(ModelRoute(name="m", default_version=1),),
        endpoints=tuple(
            Endpoint(cluster=name, region=f"r{i % 40}", url=f"http://{name}:1")
            for i, name in enumerate(names)
        ),
        replicas=tuple(
            Replica(model="m", version=1, cluster=name, concurrency=4, latency_ms=100.0)
            for name in names
        ),
    )
    signals, dice = Signals(), random.Random(1)
    signals.retain({name: f"http://{name}:1" for name in names})
    for name in names:
        signals.probed(name, dice.uniform(5, 200), "", 0.0, {("m", 1): dice.randrange(6)})
    return tables.build(snapshot), signals


def cost_us(replicas: int) -> float:
    """Return the CPU time of one decision in µs, the lists' renewal counted."""
    table, signals = world(replicas)
    dice, now_s, least = random.Random(2), 0.0, float("inf")
    question = Question(resolved=table.resolve("m"), now_s=now_s)
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(DECISIONS):
            now_s += APART_S
            question.now_s = now_s
            decide(table, signals, question, dice)
        least = min(least, (time.process_time() - began) / DECISIONS * 1e6)
    return least


def loop_us() -> float:
    """Return the CPU time of a turn of a small loop in µs."""
    began, x = time.process_time(), 0
    for i in range(200_000):
        x += i * 3 % 7
    return (time.process_time() - began) / 200_000 * 1e6


def main() -> None:
    """Print one line for each size."""
    for replicas in (8, 40, 1000):
        print(f"{replicas} replicas: {cost_us(replicas):.1f} µs (a loop: {loop_us():.3f} µs)")


if __name__ == "__main__":
    main()
