"""One origin, many agents in two regions, real processes and TLS sockets on 127.0.0.1.

Each agent's link and each region's link to the origin has the same rate, in both directions; the
ideal is size / rate. The list of a region's clusters, which the control plane tells agents, comes
from here. Scenarios:

    equal       all are there
    dead        one of each region is listed and never answers
    slow        one of each region has a link of 1/20; it is not waited for
    slow uplink one of each region can give at 1/20 of the rate; it is waited for, as it gets fast
    late        a quarter comes half an ideal time later; it is listed, with the package, at once
    late, not listed    the same, but each is listed with the package when it comes
"""

import asyncio
import contextlib
import random
import shutil
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.sync.identities import Identities
from benchmarks.sync.processes import START_S, Child, child
from benchmarks.sync.stock import Version
from federation.contract.spiffe import PeerRole

REGIONS = ("north", "south")
SCENARIOS = ("single", "equal", "dead", "slow", "slow uplink", "late", "late, not listed")
MB = 1_000_000


@dataclass
class Setting:
    folder: Path
    www: Path
    identities: Identities
    version: Version
    agents: int
    mbytes_per_s: float

    @property
    def ideal_s(self) -> float:
        return self.version.size / (self.mbytes_per_s * MB)


@dataclass
class Member:
    name: str
    port: int
    kind: str = ""  # "", dead, slow, slow uplink, late
    process: Child | None = None
    took_s: float = 0.0
    ended_s: float = 0.0
    stats: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    scenario: str
    egress: list[float]  # of each region, in sizes of the package
    last_s: float
    median_s: float
    peak_mib: float
    base_mib: float
    cpu_s_per_gib: float


async def run(setting: Setting, scenario: str) -> Outcome:
    folder = setting.folder / "run"
    shutil.rmtree(folder, ignore_errors=True)
    regions = ("north",) if scenario == "single" else REGIONS
    try:
        async with contextlib.AsyncExitStack() as stack:
            config = {
                "credentials": str(setting.identities.of(PeerRole.CONTROL_PLANE, "main")),
                "www": str(setting.www),
                "regions": regions,
                "bytes_per_s": setting.mbytes_per_s * MB,
            }
            origin = await stack.enter_async_context(child("origin", folder / "origin", config))
            ports = await origin.hear(START_S)
            each = 1 if scenario == "single" else setting.agents // len(regions)
            groups = {
                region: _Region(setting, scenario, region, each, ports[region], stack)
                for region in regions
            }
            await asyncio.gather(*(group.start() for group in groups.values()))
            began = time.monotonic()
            await asyncio.gather(*(group.sync(began) for group in groups.values()))
            origin.tell(stats=1)
            sent = await origin.hear(START_S)
            return _outcome(setting, scenario, groups, sent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Region:
    """The agents of a region, and what each is told of the others."""

    def __init__(
        self,
        setting: Setting,
        scenario: str,
        name: str,
        count: int,
        port: int,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self.members = [Member(f"{name}-{n}", free_port()) for n in range(count)]
        self._setting, self._scenario, self._stack = setting, scenario, stack
        self._origin = f"https://127.0.0.1:{port}"
        for member in self.members[: max(1, count // 4)]:
            if scenario.startswith("late"):
                member.kind = "late"
        if scenario in ("dead", "slow", "slow uplink"):
            self.members[count // 2].kind = scenario

    async def start(self) -> None:
        for some in _batches([m for m in self.members if m.kind not in ("dead", "late")], 5):
            await asyncio.gather(*(self._start(member) for member in some))

    async def sync(self, began: float) -> None:
        self._tell_peers()
        present = [m for m in self.members if m.kind not in ("dead", "late")]
        awaited = [self._stage(m, began) for m in present if m.kind != "slow"]
        for member in present:
            if member.kind == "slow" and member.process:
                member.process.tell(stage=[self._setting.version.number, self._digest])
        awaited += [self._come_late(m, began) for m in self.members if m.kind == "late"]
        await asyncio.gather(*awaited)
        for member in self.members:
            if member.process and member.kind != "slow":
                member.process.tell(stats=1)
                member.stats = await member.process.hear(START_S)

    @property
    def _digest(self) -> str:
        return self._setting.version.digest

    async def _come_late(self, member: Member, began: float) -> None:
        due = began + self._setting.ideal_s / 2
        await asyncio.sleep(max(0.0, due - 2.0 - time.monotonic()))
        await self._start(member)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        self._tell_peers()
        await self._stage(member, began)

    async def _stage(self, member: Member, began: float) -> None:
        assert member.process is not None
        member.process.tell(stage=[self._setting.version.number, self._digest])
        told = await member.process.hear(60 + self._setting.ideal_s * 40)
        member.took_s, member.ended_s = told["took_s"], time.monotonic() - began

    async def _start(self, member: Member) -> None:
        setting = self._setting
        slow = 20 if member.kind == "slow" else 1
        slow_up = 20 if member.kind.startswith("slow") else 1
        config: dict[str, object] = {
            "name": member.name,
            "credentials": str(setting.identities.of(PeerRole.CLUSTER, member.name)),
            "state": str(setting.folder / "run" / member.name),
            "origin": self._origin,
            "listen": f"127.0.0.1:{member.port}",
            "mbytes_per_s": setting.mbytes_per_s / slow,
            "up_mbytes_per_s": setting.mbytes_per_s / slow_up,
        }
        folder = setting.folder / "run" / f"{member.name}.process"
        member.process = await self._stack.enter_async_context(child("agent", folder, config))
        await member.process.hear(START_S)

    def _tell_peers(self) -> None:
        hidden = self._scenario == "late, not listed"
        peers = [
            [
                member.name,
                f"https://127.0.0.1:{member.port}",
                [] if hidden and member.kind == "late" and not member.process else [self._digest],
            ]
            for member in self.members
        ]
        for member in self.members:
            if member.process:
                member.process.tell(peers=peers)


def _outcome(
    setting: Setting, scenario: str, groups: dict[str, _Region], sent: dict[str, list[int]]
) -> Outcome:
    done = [m for group in groups.values() for m in group.members if m.stats]
    took = sorted(m.ended_s for m in done)
    copies = setting.version.size * len(done) / (1 << 30)
    return Outcome(
        scenario=scenario,
        egress=[sent[name][0] / setting.version.size for name in groups],
        last_s=took[-1],
        median_s=took[len(took) // 2],
        peak_mib=max(m.stats["peak_mib"] for m in done),
        base_mib=max(m.stats["base_mib"] for m in done),
        cpu_s_per_gib=sum(m.stats["cpu_s"] for m in done) / copies,
    )


def free_port() -> int:
    """Return a port that nobody gets by chance before it is used: one below the ephemeral ones."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _batches(members: list[Member], size: int) -> list[list[Member]]:
    return [members[at : at + size] for at in range(0, len(members), size)]
