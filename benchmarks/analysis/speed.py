"""What the analysis of 50 rollouts costs the control loop, in seconds of CPU.

Input: 50 rollouts with four regions open each, ten routers that saw all of them and report every
5 s. Output: CPU time of one turn of the desk, and of all its turns per second of virtual time.
"""

import random
import time

from federation.contract.rollout import USER_BUCKETS, AnalysisSpec
from federation.policy.analysis.analysis import Analysis
from federation.policy.analysis.counting import Counts, RouterReport
from federation.policy.analysis.desk import Desk
from federation.policy.analysis.histograms import index_of
from federation.policy.analysis.limits import limits_of
from federation.policy.analysis.rules import Reference

ROLLOUTS, REGIONS, ROUTERS, TURN_S, ROUNDS = 50, 4, 10, 0.05, 120
START = 1000.0


def _cumulative(rng: random.Random, rounds: int, mean: int) -> list[Counts]:
    columns = [[0] * USER_BUCKETS for _ in range(3)]
    latency: dict[int, int] = {}
    out = []
    for _ in range(rounds):
        for _ in range(mean):
            b = rng.randrange(USER_BUCKETS)
            columns[0][b] += 1
            columns[1][b] += rng.random() < 0.001
            ms = rng.lognormvariate(4.6, 0.5)
            columns[2][b] += ms > 240
            latency[index_of(ms)] = latency.get(index_of(ms), 0) + 1
        requests, errors, slow = (tuple(c) for c in columns)
        out.append(Counts(requests=requests, errors=errors, slow=slow, latency=dict(latency)))
    return out


def speed(seed: int) -> None:
    """Print the costs."""
    rng = random.Random(seed)
    stable, canary = (_cumulative(rng, ROUNDS, mean) for mean in (100, 25))
    desk = Desk()
    reference = Reference(requests=3000, errors=3, latency=stable[-1].latency)
    for i in range(ROLLOUTS):
        analysis = Analysis.begin(limits_of(AnalysisSpec()), regions=20)
        for r in range(REGIONS):
            analysis.open(f"r{r}", START, reference)
            analysis.weigh(f"r{r}", 25.0, START)
        desk.analyses[f"rollout-{i}"] = analysis
    turns, late = [], 0
    for step in range(ROUNDS):
        now = START + 60 + 5.0 * step
        inbox = [
            (f"rollout-{i}", f"r{r}", f"router-{k}")
            for i in range(ROLLOUTS)
            for r in range(REGIONS)
            for k in range(ROUTERS)
        ]
        rng.shuffle(inbox)
        per_turn = len(inbox) * TURN_S / 5.0
        for turn in range(round(5.0 / TURN_S)):
            for rollout, region, router in inbox[int(turn * per_turn) : int((turn + 1) * per_turn)]:
                report = RouterReport(
                    router=router,
                    boot="1",
                    sequence=step,
                    stable=stable[step],
                    canary=canary[step],
                )
                desk.put(rollout, region, report)
            began = time.process_time()
            news = desk.work(now + turn * TURN_S)
            for rollout in news:
                desk.analyses[rollout].judged(now)
            turns.append(time.process_time() - began)
        late = max(late, len(desk.waiting))
    turns.sort()
    p50, p99, most = (1000 * turns[int(q * (len(turns) - 1))] for q in (0.5, 0.99, 1.0))
    share = sum(turns) / (ROUNDS * 5.0)
    print(f"{ROLLOUTS} rollouts, {REGIONS} regions each, {ROUTERS} routers, a turn every 50 ms")
    print(f"a turn: median {p50:.1f} ms, p99 {p99:.1f} ms, most {most:.1f} ms of CPU")
    print(f"together {100 * share:.0f} % of a core; reports that waited at the end of 5 s: {late}")
