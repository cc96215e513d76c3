"""What a fleet of clusters costs the control plane, and how soon routers know what it reports.

Input: `--agents`, each with `--devices` and `--models`, reporting each second over mutual TLS as in
production; `--changes`, how many versions a second stop or start to be warm somewhere; `--flicker`,
the share of reports in which free units changed. Output: CPU seconds of the control plane per
second (cores), commits a second, and the time from an agent's report to the routing snapshot at a
router. Two processes: this one has all agents and the router, the other one is the control plane.

Run by `python -m benchmarks.fleet`; the bar is 1,000 agents: at most 1 core, p99 at most 250 ms.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import ssl
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio

from federation.contract import codec
from federation.contract.capacity import Capacity, Device, DeviceUse, Pool, pools_of
from federation.contract.codec_deltas import CapacityWriter
from federation.contract.spiffe import PeerRole, control_plane_dns_name
from federation.contract.types import (
    EngineKind,
    EngineStatus,
    Observed,
    ObservedVersion,
    Report,
    VersionState,
)
from federation.contract.v1 import federation_pb2 as pb
from federation.contract.v1 import federation_pb2_grpc as rpc
from federation.runtime.channel import connect
from federation.trust.credentials import Credentials
from tests.fakes.control_plane import Operator, agent_hello, router_hello

TICKS = os.sysconf("SC_CLK_TCK")
AT_ONCE = 16


def cpu_s(pid: int) -> float:
    """CPU seconds that a process used, in all its threads."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / TICKS


def waited_s(pid: int) -> float:
    """Seconds that a process's first thread was ready to run and had no core: others had them."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


@dataclass
class Plane:
    """The control plane's process."""

    process: asyncio.subprocess.Process
    told: dict[str, str]

    async def counts(self) -> dict[str, Any]:
        self.process.stdin.write(b"\n")
        return json.loads(await self.process.stdout.readline())

    def channel(self, credentials: Credentials):
        server = control_plane_dns_name(self.told["trust_domain"])
        return connect(self.told["grpc"], credentials.channel_credentials(), server)


@contextlib.asynccontextmanager
async def running(state_dir: Path, profile: str):
    """The control plane, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.fleet_plane", str(state_dir)]
    words += ["--profile", profile] if profile else []
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe)
    try:
        yield Plane(process, json.loads(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


@contextlib.asynccontextmanager
async def operator(plane: Plane):
    """A client of the operator API."""
    context = ssl.create_default_context(cadata=plane.told["roots"])
    connector = aiohttp.TCPConnector(ssl=context, limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Operator(session, f"https://{plane.told['http']}", plane.told["admin"])


@dataclass(eq=False)
class Agent:
    """One cluster's agent: says what a real one says, and has no engine."""

    name: str
    credentials: Credentials
    devices: int
    flicker: float
    dice: random.Random
    epoch: int = 0
    sequence: int = 0
    generation: int = 0
    renewed: int = 0
    capacity: Capacity = field(default_factory=Capacity)
    versions: dict[str, ObservedVersion] = field(default_factory=dict)
    cold: set[str] = field(default_factory=set)
    call: Any = None
    writer: CapacityWriter = field(default_factory=CapacityWriter)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, plane: Plane, started: asyncio.Event) -> None:
        self.capacity = self.make_capacity()
        while True:
            try:
                await self.stay(plane, started)
            except* grpc.aio.AioRpcError as group:
                error = group.exceptions[0]
                print(f"{self.name} dials again: {getattr(error, 'details', str)()}"[:200])
                await asyncio.sleep(0.2 + self.dice.random())

    async def stay(self, plane: Plane, started: asyncio.Event) -> None:
        async with plane.channel(self.credentials) as channel:
            self.call = rpc.AgentServiceStub(channel).Connect()
            await self.call.write(agent_hello(self.name, url="https://127.0.0.1:7500"))
            welcome = await self.call.read()
            self.epoch, self.sequence = welcome.welcome.epoch, 0
            self.writer = CapacityWriter()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.listen())
                await started.wait()
                await asyncio.sleep(self.dice.random())
                while True:
                    due = asyncio.get_running_loop().time() + 1.0
                    await self.report()
                    await asyncio.sleep(due - asyncio.get_running_loop().time())

    async def listen(self) -> None:
        while True:
            message = await self.call.read()
            match message.WhichOneof("body"):
                case "assignment":
                    self.generation = message.assignment.generation
                    self.versions = {
                        v.model: ObservedVersion(
                            model=v.model,
                            version=v.version,
                            digest=v.digest,
                            state=VersionState.WARMED,
                            replicas=1,
                        )
                        for v in message.assignment.versions
                    }
                case "lease_renewed":
                    self.renewed += 1
                case "capacity_wanted":
                    self.writer.forget()

    def make_capacity(self) -> Capacity:
        nodes = [f"{self.name}-gpu-{self.dice.getrandbits(20):05x}" for _ in range(99)]
        devices = tuple(
            Device(
                id=f"GPU-{uuid.UUID(int=self.dice.getrandbits(128), version=4)}",
                vendor="nvidia",
                product="NVIDIA H100 80GB HBM3",
                memory_mib=81_559,
                source="nvml",
                node=nodes[n // 8],
                architecture="hopper",
                compute_capability="9.0",
            )
            for n in range(self.devices)
        )
        return Capacity(devices=devices, pools=pools_of(devices))

    def now(self) -> Capacity:
        """The capacity with what devices do now."""
        dice = self.dice
        devices = tuple(
            replace(
                device,
                use=DeviceUse(
                    memory_mib=dice.randrange(80_000),
                    utilization=dice.random(),
                    temperature_c=dice.uniform(30, 90),
                    power_w=dice.uniform(60, 700),
                ),
            )
            for device in self.capacity.devices
        )
        if dice.random() < self.flicker:
            pools = tuple(self.flickered(pool) for pool in self.capacity.pools)
            self.capacity = replace(self.capacity, pools=pools)
        return replace(self.capacity, devices=devices, age_s=dice.random() * 10)

    def flickered(self, pool: Pool) -> Pool:
        return replace(pool, free=self.dice.randint(0, pool.allocatable))

    async def report(self) -> None:
        async with self.turn:
            await self.call.write(pb.AgentMessage(report=self.make_report()))

    def make_report(self) -> pb.Report:
        self.sequence += 1
        versions = tuple(
            replace(
                v,
                state=VersionState.LOADED if v.model in self.cold else v.state,
                in_flight=self.dice.randrange(50),
                rate=self.dice.random() * 100,
                latency_ms=self.dice.random() * 100,
            )
            for v in self.versions.values()
        )
        engine = EngineStatus(kind=EngineKind.TRITON, version="2.60", ready=True)
        report = Report(
            cluster=self.name,
            epoch=self.epoch,
            sequence=self.sequence,
            capacity=self.now(),
            observed=Observed(
                observed_generation=self.generation, engine=engine, versions=versions
            ),
            url="https://127.0.0.1:7500",
        )
        compact = self.writer.write(report.sequence, report.capacity)
        return codec.report_to_proto(report, compact)


class Router:
    """Hears snapshots, and knows when each replica came or went."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.replicas: set[tuple[str, str]] = set()
        self.snapshots = 0
        self.waiting: dict[tuple[str, str], asyncio.Future[float]] = {}

    async def run(self, plane: Plane) -> None:
        async with plane.channel(self.credentials) as channel:
            call = rpc.RouterServiceStub(channel).Watch()
            await call.write(router_hello("r"))
            while True:
                message = await call.read()
                heard_s = time.monotonic()
                if message.WhichOneof("body") != "snapshot":
                    continue
                self.snapshots += 1
                now = {(r.model, r.cluster) for r in message.snapshot.replicas}
                for key in now ^ self.replicas:
                    if key in self.waiting and not self.waiting[key].done():
                        self.waiting[key].set_result(heard_s)
                self.replicas = now
                ack = pb.SnapshotAck(version=message.snapshot.version)
                await call.write(pb.RouterMessage(ack=ack))


async def change(agents: list[Agent], router: Router, dice: random.Random) -> float:
    """Have one version stop or start to be warm; returns how long the router did not know."""
    agent = dice.choice(agents)
    model = dice.choice(sorted(agent.versions))
    key = (model, agent.name)
    heard = router.waiting[key] = asyncio.get_running_loop().create_future()
    agent.cold ^= {model}
    begun_s = time.monotonic()
    await agent.report()
    async with asyncio.timeout(30):
        return await heard - begun_s


async def fleet(asked: argparse.Namespace, root: Path) -> None:
    dice = random.Random(5)
    async with running(root, asked.profile) as plane, asyncio.TaskGroup() as group:
        async with operator(plane) as api:
            for n in range(asked.models):
                pushed = await api.push(f"m{n}")
                assert pushed.status == 201, pushed.body
            turn = asyncio.Semaphore(AT_ONCE)

            async def join(name: str) -> Agent:
                async with turn:
                    region = f"r{int(name[2:]) % asked.regions:02d}"
                    held = await api.join(await api.register(name, region))
                return Agent(name, held, asked.devices, asked.flicker, random.Random(name))

            begun = time.monotonic()
            agents = await asyncio.gather(*(join(f"c-{n:04d}") for n in range(asked.agents)))
            router = Router(await api.member("r", PeerRole.ROUTER))
            print(f"{asked.agents} clusters joined in {time.monotonic() - begun:.0f} s")
            started = asyncio.Event()
            tasks = [group.create_task(router.run(plane))]
            for agent in agents:
                tasks.append(group.create_task(agent.run(plane, started)))
                while sum(not each.epoch for each in agents[: len(tasks) - 1]) >= AT_ONCE:
                    await asyncio.sleep(0.002)
            while not all(agent.epoch for agent in agents):
                await asyncio.sleep(0.01)
            started.set()
            await asyncio.sleep(2)
            for n in range(asked.models):
                applied = await api.put("Deployment", f"m{n}", {"model": f"m{n}"})
                assert applied.status == 201, applied.body
            wanted = asked.models * asked.agents
            async with asyncio.timeout(300):
                while len(router.replicas) < wanted:
                    await asyncio.sleep(0.2)
            print(f"{wanted} replicas are warm after {time.monotonic() - begun:.0f} s")
            await asyncio.sleep(asked.settle)
            await measure(asked, plane, agents, router, dice)
        for task in tasks:
            task.cancel()


async def measure(
    asked: argparse.Namespace, plane: Plane, agents: list[Agent], router: Router, dice: Any
) -> None:
    pid, own = plane.process.pid, os.getpid()
    before, begun_s = await plane.counts(), time.monotonic()
    renewed = sum(agent.renewed for agent in agents)
    used, used_here = cpu_s(pid), cpu_s(own)
    waited, waited_here = waited_s(pid), waited_s(own)
    delays: list[float] = []
    snapshots = router.snapshots
    while time.monotonic() - begun_s < asked.seconds:
        due = time.monotonic() + 1 / asked.changes
        delays.append(await change(agents, router, dice))
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    took_s = time.monotonic() - begun_s
    used, used_here = cpu_s(pid) - used, cpu_s(own) - used_here
    after = await plane.counts()
    reports = after["reports"] - before["reports"]
    answered = sum(agent.renewed for agent in agents) - renewed
    quantiles = statistics.quantiles(delays, n=100) if len(delays) > 1 else [0.0] * 99
    print(
        f"reports a second:         {reports / took_s:10.1f}  (answered: {answered / took_s:.1f})"
    )
    print(
        f"control plane, cores:     {used / took_s:10.3f}  ({1e6 * used / reports:.0f} us a report)"
    )
    print(f"agents and router, cores: {used_here / took_s:10.3f}")
    steps = [1e3 * after[f"step_{which}_s"] for which in ("p50", "p99", "longest")]
    print("CPU of a batch, ms:       p50 {:.1f}  p99 {:.1f}  longest {:.1f}".format(*steps))
    print(
        f"garbage collection, ms:   longest {1e3 * after['gc_longest_s']:.0f}  cores "
        f"{(after['gc_s'] - before['gc_s']) / took_s:.3f}"
    )
    print(f"commits a second:         {(after['commits'] - before['commits']) / took_s:10.2f}")
    commit = [1e3 * after[f"commit_{which}_s"] for which in ("p50", "longest")]
    print("a commit takes, ms:       p50 {:.1f}  longest {:.0f}  (on this disk)".format(*commit))
    print(f"snapshots a second:       {(router.snapshots - snapshots) / took_s:10.2f}")
    waited, waited_here = waited_s(pid) - waited, waited_s(own) - waited_here
    print(
        f"waited for a core, share: {waited / took_s:10.3f}  (agents: {waited_here / took_s:.3f})"
    )
    print(
        f"report to snapshot, ms:   p50 {1e3 * quantiles[49]:.0f}  p99 {1e3 * quantiles[98]:.0f}"
        f"  max {1e3 * max(delays):.0f}  of {len(delays)} changes"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--regions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--settle", type=float, default=5)
    parser.add_argument("--changes", type=float, default=4)
    parser.add_argument("--flicker", type=float, default=0.1)
    parser.add_argument("--profile", default="", help="write the control plane's profile there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(fleet(asked, Path(root)))


if __name__ == "__main__":
    main()
