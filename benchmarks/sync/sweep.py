"""Fan-out on a virtual clock: many seeds, sizes and mishaps, the agents' real decisions.

Run as `python -m benchmarks.sync.sweep`; see --help. Output: a row for each scenario and number of
agents (of one region) with median and worst of all seeds: the origin's egress in sizes of the
package, and when the last agent was done, in times of the ideal (size / rate of a link). An agent
whose both directions are slow is not waited for.
"""

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

from tests.edge_agent.policy.swarm_world import Result, Setup, World

FEW = Setup(pieces=16, link_rate=6e6, origin_rate=6e6)  # 64 MiB over 6 MB/s


def scenarios(agents: int, pieces: int) -> dict[str, Setup]:
    """Return what is simulated for a region of so many agents; the package has 1 GiB."""
    one = Setup(agents=agents, pieces=pieces, piece_bytes=2**30 / pieces)
    few = replace(FEW, agents=agents)
    some = max(1, agents // 50)
    if agents == 2:
        return {
            "equal": one,
            "one dead": replace(one, dead=1),
            "one has a slow uplink": replace(one, slow=1),
            "one has a very slow uplink": replace(one, slow=1, slowness=200.0),
            "16 pieces": few,
            "16 pieces, slow uplink": replace(few, slow=1),
        }
    return {
        "equal": one,
        "dead": replace(one, dead=some),
        "slow link": replace(one, slow=some, slow_down=True),
        "slow uplink": replace(one, slow=some),
        "very slow uplink": replace(one, slow=some, slowness=200.0),
        "dead, slow uplink": replace(one, dead=some, slow=some),
        "a quarter late": replace(one, late=agents // 4),
        "lists come within 2 s": replace(one, lag_s=2.0),
        "split view": replace(one, blind=agents // 2, hidden=max(1, agents // 10)),
        "all views differ": replace(one, unlisted=0.1),
        "16 pieces": few,
        "16 pieces, slow uplink": replace(few, slow=some),
        "16 pieces, split view": replace(few, blind=agents // 2, hidden=max(1, agents // 10)),
        "16 pieces, all views differ": replace(few, unlisted=0.1),
        "16 pieces, a quarter late": replace(few, late=agents // 4),
    }


def one_run(setup: Setup, seed: int) -> Result:
    """Simulate one region."""
    return World(replace(setup, seed=seed)).run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync.sweep", description=__doc__)
    parser.add_argument("--agents", type=int, nargs="+", default=[2, 10, 20, 60])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--pieces", type=int, default=128, help="of the package of 1 GiB")
    parser.add_argument("--only", nargs="+", help="scenarios by name")
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args()
    print("| scenario | agents | egress, median | worst | last/ideal, median | worst | CPU s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with ProcessPoolExecutor(chosen.processes) as pool:
        for agents in chosen.agents:
            for name, setup in scenarios(agents, chosen.pieces).items():
                if chosen.only and name not in chosen.only:
                    continue
                began = time.monotonic()
                found = list(pool.map(partial(one_run, setup), range(1, 1 + chosen.seeds)))
                took_s = (time.monotonic() - began) * chosen.processes / chosen.seeds
                print(row(name, agents, found, took_s), flush=True)


def row(name: str, agents: int, found: list[Result], took_s: float) -> str:
    """Return a line of the table."""
    egress, last = [r.egress for r in found], [r.last for r in found]
    worst = max(range(len(found)), key=last.__getitem__) + 1
    failed = sum(bool(r.unfinished or r.torn) for r in found)
    return (
        f"| {name}{f' ({failed} FAILED)' if failed else ''} | {agents} "
        f"| {statistics.median(egress):.3f} | {max(egress):.3f} "
        f"| {statistics.median(last):.2f} | {max(last):.2f} (seed {worst}) | {took_s:.1f} |"
    )


if __name__ == "__main__":
    main()
