"""The agents of `benchmarks.fleet`: they say what real ones say, and have no engine.

Run as a process of its own, it is the crowd: all agents but the few whose changes are timed. Input:
where the control plane listens (JSON) and how many agents, as arguments; then a line on standard
input to begin to report, and its end to stop. Output: a line when all are connected.
"""

import argparse
import asyncio
import contextlib
import json
import random
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import grpc.aio

from federation.contract import codec
from federation.contract.capacity import Capacity, Device, DeviceUse, Pool, pools_of
from federation.contract.codec_deltas import CapacityWriter
from federation.contract.spiffe import control_plane_dns_name
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
from tests.fakes.control_plane import Operator, agent_hello

AT_ONCE = 16
Told = dict[str, str]


def channel(told: Told, credentials: Credentials) -> grpc.aio.Channel:
    """A channel to the control plane."""
    server = control_plane_dns_name(told["trust_domain"])
    return connect(told["grpc"], credentials.channel_credentials(), server)


@contextlib.asynccontextmanager
async def operator(told: Told) -> AsyncIterator[Operator]:
    """A client of the operator API."""
    context = ssl.create_default_context(cadata=told["roots"])
    connector = aiohttp.TCPConnector(ssl=context, limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Operator(session, f"https://{told['http']}", told["admin"])


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

    async def run(self, told: Told, started: asyncio.Event) -> None:
        self.capacity = self.make_capacity()
        while True:
            try:
                await self.stay(told, started)
            except* grpc.aio.AioRpcError as group:
                error = group.exceptions[0]
                print(f"{self.name} dials again: {getattr(error, 'details', str)()}"[:200])
                await asyncio.sleep(0.2 + self.dice.random())

    async def stay(self, told: Told, started: asyncio.Event) -> None:
        async with channel(told, self.credentials) as line:
            self.call = rpc.AgentServiceStub(line).Connect()
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


async def joined(api: Operator, asked: argparse.Namespace, numbers: Iterable[int]) -> list[Agent]:
    """Register clusters and have their agents join."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def join(number: int) -> Agent:
        name = f"c-{number:04d}"
        async with turn:
            held = await api.join(await api.register(name, f"r{number % asked.regions:02d}"))
        return Agent(name, held, asked.devices, asked.flicker, random.Random(name))

    return await asyncio.gather(*map(join, numbers))


async def connected(
    agents: list[Agent], told: Told, started: asyncio.Event, group: asyncio.TaskGroup
) -> list[asyncio.Task[None]]:
    """Have all agents connect, a few at a time."""
    tasks: list[asyncio.Task[None]] = []
    for agent in agents:
        tasks.append(group.create_task(agent.run(told, started)))
        while sum(not each.epoch for each in agents[: len(tasks)]) >= AT_ONCE:
            await asyncio.sleep(0.002)
    while not all(agent.epoch for agent in agents):
        await asyncio.sleep(0.01)
    return tasks


async def crowd(asked: argparse.Namespace) -> None:
    """Run all agents until standard input ends."""
    told = json.loads(asked.plane)
    async with asyncio.TaskGroup() as group:
        async with operator(told) as api:
            agents = await joined(api, asked, range(asked.first, asked.agents))
        started = asyncio.Event()
        tasks = await connected(agents, told, started, group)
        print("connected", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        started.set()
        while await asyncio.to_thread(sys.stdin.readline):
            print(sum(agent.renewed for agent in agents), flush=True)
        for task in tasks:
            task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("plane")
    parser.add_argument("--first", type=int, default=0)
    for name in ("agents", "devices", "regions"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--flicker", type=float, required=True)
    asyncio.run(crowd(parser.parse_args()))


if __name__ == "__main__":
    main()
