"""Run the cells and print every row: `python -m benchmarks.policy [--only WORD] [--requests N]`.

Input: nothing but the files in `data`. Output: markdown. All parameters of all policies are the
same in all cells. A request that fails after three attempts counts as one that took 60 s.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.policy.inputs import fleets
from benchmarks.policy.ours import Ours
from benchmarks.policy.rivals import RIVALS, Oracle
from benchmarks.policy.world import MakeRouter, Outcome, Scenario, run

SCENARIOS = {
    s.name: s
    for s in (
        Scenario(),
        Scenario("fail-slow", fail_slow=True),
        Scenario("region loss", region_loss=True),
        Scenario("stale", report_s=5.0, piggy_back=False),
        Scenario("lying", liars=0.15),
    )
}
POLICIES: dict[str, MakeRouter] = {"oracle": Oracle, "ours": Ours, **RIVALS}
LOADS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
TEXT = (("five", "conv"), ("dozen", "conv"), ("edge", "code"), ("hub", "mooncake"))


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table."""

    fleet: str
    trace: str
    load: float
    scenario: str

    def __str__(self) -> str:
        return f"{self.fleet} | {self.trace} | {self.load} | {self.scenario}"


def cells() -> Iterator[Cell]:
    """Yield all rows, the ones with bars first."""
    for fleet in ("five", "dozen", "edge", "hub"):
        for load in (0.6, 0.8):
            yield Cell(fleet, "tensor", load, "steady")
    for scenario in ("fail-slow", "region loss", "stale", "lying"):
        for fleet in ("five", "dozen", "edge"):
            yield Cell(fleet, "tensor", 0.7, scenario)
    for fleet, trace in TEXT:
        for load in (0.6, 0.8, 1.0):
            yield Cell(fleet, trace, load, "steady")
    for fleet in ("five", "dozen", "edge", "hub"):
        for load in LOADS:
            if load not in (0.6, 0.8):
                yield Cell(fleet, "tensor", load, "steady")


def measure(policy: str, cell: Cell, requests: int, seeds: int) -> tuple[float, float, Outcome]:
    """Return p99 and mean in ms, over all seeds, and the last run's outcome."""
    took: list[float] = []
    for seed in range(1, seeds + 1):
        outcome = run(
            POLICIES[policy],
            fleets()[cell.fleet],
            SCENARIOS[cell.scenario],
            trace=cell.trace,
            load=cell.load,
            count=requests,
            seed=seed,
            oracle=policy == "oracle",
        )
        took += outcome.took
    took.sort()
    return took[int(len(took) * 0.99)] * 1000, sum(took) / len(took) * 1000, outcome


def main() -> None:
    """Print one line for each cell as it is done, then the sums."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy")
    parser.add_argument("--only", default="", help="rows that have this in them")
    parser.add_argument("--requests", type=int, default=6000, help="of each run")
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    print("p99 ÷ the oracle's p99; in brackets the oracle's, in ms. Bold: the best.\n")
    names = [name for name in POLICIES if name != "oracle"]
    print("| fleet | trace | load | scenario | oracle |", " | ".join(names), "|")
    print("|---" * (5 + len(names)) + "|")
    rows = wins = 0
    for cell in cells():
        if asked.only not in str(cell):
            continue
        base, _, _ = measure("oracle", cell, asked.requests, asked.seeds)
        found = {n: measure(n, cell, asked.requests, asked.seeds) for n in names}
        ratios = {n: p99 / base for n, (p99, _, _) in found.items()}
        best = min(ratios.values())
        told = [f"**{r:.2f}**" if r == best else f"{r:.2f}" for r in ratios.values()]
        print(f"| {cell} | ({base:.0f}) |", " | ".join(told), "|", flush=True)
        rows, wins = rows + 1, wins + (ratios["ours"] <= best)
    print(f"\nOurs is the best in {wins} of {rows} cells.")


if __name__ == "__main__":
    main()
