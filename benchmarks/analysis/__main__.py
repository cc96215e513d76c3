"""python -m benchmarks.analysis [TABLE ...] [--runs 1000] [--seed 20]

Input: which tables (all by default). Output: markdown, a row at a time. `agreement` compares the
vectorised method with the product's code; `verdicts` and `speed` run the product's code itself.
"""

import argparse

import numpy as np

from benchmarks.analysis.speed import speed
from benchmarks.analysis.tables import LINE, TABLES, Bench
from benchmarks.analysis.vector import agreement
from benchmarks.analysis.verdicts import verdicts
from benchmarks.analysis.world import World, draw
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.rules import Rule


def agree(seed: int) -> None:
    """Print how far the vectorised method is from the product's."""
    world = World(
        rps=50, users=2000, weight=0.1, bursts=0.05, noise=0.05, drift=True, slower=1.3,
        canary_errors=0.004,
    )  # fmt: skip
    runs = draw(world, 10, np.random.default_rng(seed))
    errors = Rule(metric=Metric.ERRORS, slope=LINE[0], slack=LINE[1], usual=0.001)
    for metric, rule in ((Metric.ERRORS, errors), (Metric.P95, None)):
        print(f"{metric.value}: largest relative difference {agreement(runs, metric, rule):.1e}")


def main() -> None:
    """Print the tables that were asked for."""
    extra = {"agreement", "verdicts", "speed"}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analysis")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join([*TABLES, *extra]))
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    wanted = options.tables or [*TABLES, *sorted(extra)]
    if unknown := set(wanted) - set(TABLES) - extra:
        parser.error(f"unknown tables: {', '.join(sorted(unknown))}")
    for name in wanted:
        print(f"\n## {name}\n", flush=True)
        if name == "agreement":
            agree(options.seed)
        elif name == "verdicts":
            verdicts(max(20, options.runs // 10), options.seed)
        elif name == "speed":
            speed(options.seed)
        else:
            bench = Bench(options.runs, np.random.default_rng(options.seed))
            for line in TABLES[name](bench):
                print(line, flush=True)


if __name__ == "__main__":
    main()
