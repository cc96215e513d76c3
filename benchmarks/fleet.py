"""What a fleet of clusters costs the control plane, and how soon routers know what it reports.

Input: `--agents`, each with `--devices` and `--models`, reporting each second over mutual TLS as in
production; `--routers`; `--changes`, how many versions a second stop or start to be warm somewhere;
`--flicker`, the share of reports in which free units changed. Output: CPU seconds of the control
plane per second (cores), commits a second, and the time from an agent's report to the routing
snapshot at the first router.

Three processes: the control plane, the crowd of agents, and this one, the probe: it has a router
and the few agents whose changes are timed, from the moment that the report is written, and does
little else. How late its own event loop gets its turns is printed beside, and what other programs
take of the machine meanwhile. With `--nice -10` they weigh less, with `--real-time` nothing (both
need root; keep it short).

Run by `python -m benchmarks.fleet`; the bar is 1,000 agents: at most 1 core, p99 at most 250 ms.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fleet_agents import Agent, Told, channel, connected, joined, operator
from federation.contract.spiffe import PeerRole
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.trust.credentials import Credentials
from tests.fakes.control_plane import router_hello

TICKS = os.sysconf("SC_CLK_TCK")
PROBED = 20  # agents whose changes are timed
LOOK_S = 0.01


def cpu_s(pid: int) -> float:
    """CPU seconds that a process used, in all its threads."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / TICKS


def busy_s() -> float:
    """CPU seconds that all programs used since the machine started."""
    user, nice, system, _, _, irq, soft, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + soft) / TICKS


def waited_s(pid: int) -> float:
    """Seconds that a process's first thread was ready to run and had no core: others had them."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


@dataclass
class Child:
    """The control plane's process, or the crowd's."""

    process: asyncio.subprocess.Process
    first: str  # line that it wrote

    async def ask(self) -> Any:
        """Send a line; returns the JSON of the answer."""
        self.process.stdin.write(b"\n")
        return json.loads(await self.process.stdout.readline())


@contextlib.asynccontextmanager
async def running(module: str, *words: str) -> AsyncIterator[Child]:
    """One of our modules, in a process of its own."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"benchmarks.{module}", *words, stdin=pipe, stdout=pipe
    )
    try:
        yield Child(process, (await process.stdout.readline()).decode())
    finally:
        process.stdin.close()
        await process.wait()


class Router:
    """Hears snapshots, and knows when each replica came or went."""

    def __init__(self, name: str, credentials: Credentials) -> None:
        self.name = name
        self.credentials = credentials
        self.replicas: set[tuple[str, str]] = set()
        self.snapshots = 0
        self.waiting: dict[tuple[str, str], asyncio.Future[float]] = {}

    async def run(self, told: Told) -> None:
        async with channel(told, self.credentials) as line:
            call = rpc.RouterServiceStub(line).Watch()
            await call.write(router_hello(self.name))
            while True:
                message = await call.read()
                heard_s = time.monotonic()
                if message.WhichOneof("body") != "snapshot":
                    continue
                self.snapshots += 1
                if self.waiting or self.name == "r0":
                    self.compare(message.snapshot, heard_s)
                ack = pb.SnapshotAck(version=message.snapshot.version)
                await call.write(pb.RouterMessage(ack=ack))

    def compare(self, snapshot: pb.Snapshot, heard_s: float) -> None:
        now = {(r.model, r.cluster) for r in snapshot.replicas}
        for key in now ^ self.replicas:
            if key in self.waiting and not self.waiting[key].done():
                self.waiting[key].set_result(heard_s)
        self.replicas = now


async def change(agents: list[Agent], router: Router, dice: random.Random) -> float:
    """Have one version stop or start to be warm; returns how long the router did not know."""
    agent = dice.choice(agents)
    model = dice.choice(sorted(agent.versions))
    key = (model, agent.name)
    heard = router.waiting[key] = asyncio.get_running_loop().create_future()
    agent.cold ^= {model}
    await agent.report()
    begun_s = time.monotonic()
    async with asyncio.timeout(30):
        return await heard - begun_s


async def lags(into: list[float]) -> None:
    """Note how late this event loop gets its turns."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK_S
        await asyncio.sleep(LOOK_S)
        into.append(loop.time() - due)


async def fleet(asked: argparse.Namespace, root: Path) -> None:
    words = [str(root), *(["--profile", asked.profile] if asked.profile else [])]
    begun = time.monotonic()
    async with running("fleet_plane", *words) as plane, asyncio.TaskGroup() as group:
        told = json.loads(plane.first)
        options = ("agents", "devices", "regions", "flicker")
        words = [word for name in options for word in (f"--{name}", f"{getattr(asked, name)}")]
        words += ["--first", str(PROBED)]
        async with operator(told) as api, running("fleet_agents", plane.first, *words) as crowd:
            for n in range(asked.models):
                pushed = await api.push(f"m{n}")
                assert pushed.status == 201, pushed.body
            agents = await joined(api, asked, range(PROBED))
            names = [f"r{n}" for n in range(asked.routers)]
            routers = [Router(name, await api.member(name, PeerRole.ROUTER)) for name in names]
            tasks = [group.create_task(router.run(told)) for router in routers]
            started = asyncio.Event()
            tasks += await connected(agents, told, started, group)
            print(f"{asked.agents} clusters joined in {time.monotonic() - begun:.0f} s")
            started.set()
            crowd.process.stdin.write(b"\n")
            await asyncio.sleep(2)
            for n in range(asked.models):
                applied = await api.put("Deployment", f"m{n}", {"model": f"m{n}"})
                assert applied.status == 201, applied.body
            wanted = asked.models * asked.agents
            async with asyncio.timeout(300):
                while len(routers[0].replicas) < wanted:
                    await asyncio.sleep(0.2)
            print(f"{wanted} replicas are warm after {time.monotonic() - begun:.0f} s")
            await asyncio.sleep(asked.settle)
            late: list[float] = []
            tasks.append(group.create_task(lags(late)))
            for _ in range(asked.runs):
                late.clear()
                await measure(asked, (plane, crowd), agents, routers[0], late)
            for task in tasks:
                task.cancel()


async def measure(
    asked: argparse.Namespace,
    children: tuple[Child, Child],
    agents: list[Agent],
    router: Router,
    late: list[float],
) -> None:
    dice = random.Random(5)
    plane, crowd = children
    pids = [plane.process.pid, crowd.process.pid, os.getpid()]
    before, answered, begun_s = await plane.ask(), await crowd.ask(), time.monotonic()
    used, busy, waited = [*map(cpu_s, pids)], busy_s(), [*map(waited_s, pids)]
    delays: list[float] = []
    snapshots = router.snapshots
    while time.monotonic() - begun_s < asked.seconds:
        due = time.monotonic() + 1 / asked.changes
        delays.append(await change(agents, router, dice))
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    took_s = time.monotonic() - begun_s
    used = [(cpu_s(pid) - u) / took_s for pid, u in zip(pids, used, strict=True)]
    waited = [(waited_s(pid) - w) / took_s for pid, w in zip(pids, waited, strict=True)]
    others = (busy_s() - busy) / took_s - sum(used)
    after, answered = await plane.ask(), await crowd.ask() - answered
    reports = after["reports"] - before["reports"]
    print(
        f"reports a second:         {reports / took_s:10.1f}  (answered: {answered / took_s:.1f})"
    )
    each_us = 1e6 * used[0] * took_s / reports
    print(f"control plane, cores:     {used[0]:10.3f}  ({each_us:.0f} us a report)")
    print(
        f"agents, cores:            {used[1]:10.3f}  (probe: {used[2]:.3f}, others: {others:.2f})"
    )
    steps = [1e3 * after[f"step_{which}_s"] for which in ("p50", "p99", "longest")]
    print("CPU of a batch, ms:       p50 {:.1f}  p99 {:.1f}  longest {:.1f}".format(*steps))
    print(
        f"garbage collection, ms:   longest {1e3 * after['gc_longest_s']:.0f}  cores "
        f"{(after['gc_s'] - before['gc_s']) / took_s:.3f}"
    )
    commits, seen = after["commits"] - before["commits"], router.snapshots - snapshots
    commit = [1e3 * after[f"commit_{which}_s"] for which in ("p50", "longest")]
    print(
        f"commits a second:         {commits / took_s:10.2f}  (snapshots: {seen / took_s:.2f}; a "
        "commit takes p50 {:.1f} ms, longest {:.0f} ms)".format(*commit)
    )
    print("waited for a core, share: {:10.3f}  (agents: {:.3f}, probe: {:.3f})".format(*waited))
    print(f"probe's own lag, ms:      {told(late)}")
    print(f"report to snapshot, ms:   {told(delays)}  of {len(delays)} changes\n")


def told(seconds: list[float]) -> str:
    """Quantiles, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else [0.0] * 99
    top = max(seconds)
    return (
        f"best {1e3 * min(seconds):.0f}  p50 {1e3 * cuts[49]:.0f}  p90 {1e3 * cuts[89]:.0f}  "
        f"p99 {1e3 * min(cuts[98], top):.0f}  max {1e3 * top:.0f}"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--regions", type=int, default=20)
    parser.add_argument("--routers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30, help="of one run")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--settle", type=float, default=5)
    parser.add_argument("--changes", type=float, default=4)
    parser.add_argument("--flicker", type=float, default=0.1)
    parser.add_argument("--nice", type=int, default=0, help="priority of all three processes")
    parser.add_argument(
        "--real-time", action="store_true", help="other programs get no core before ours (root)"
    )
    parser.add_argument("--profile", default="", help="write the control plane's profile there")
    asked = parser.parse_args()
    os.nice(asked.nice)
    if asked.real_time:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(fleet(asked, Path(root)))


if __name__ == "__main__":
    main()
