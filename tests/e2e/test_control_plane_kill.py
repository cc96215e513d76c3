"""`kill -9` of the control plane in the midst of 200 operations: what was acknowledged stays.

Each operation carries an Idempotency-Key and is repeated after a kill until it is acknowledged.
After each restart, what the API shows must be exactly the acknowledged operations, with or without
the one that was under way: nothing lost, nothing half done, nothing done twice. The audit log is a
whole chain after each kill, and tells of each operation once.
"""

import asyncio
import random
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from federation.policy.audit import chain
from federation.policy.audit.records import Head
from tests.engines.ports import free_block
from tests.fakes.control_plane import LOCATION, Answer, Operator

OPERATIONS = 200
KILLS = 24
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Shown:
    """What the API shows, as far as the script changes it."""

    regions: frozenset[str] = frozenset()
    clusters: dict[str, str] = field(default_factory=dict)  # name to scheduling
    versions: tuple[int, ...] = ()
    deployment: tuple[int, int] = (0, 0)  # generation, version

    def after(self, number: int) -> "Shown":
        """Return what is shown once operation `number` was done, too."""
        match number % 5:
            case 0:
                return replace(self, regions=self.regions | {f"r{number}"})
            case 1:
                return replace(self, clusters=self.clusters | {f"c{number}": "active"})
            case 2:
                return replace(self, versions=(*self.versions, len(self.versions) + 1))
            case 3:
                generation, _ = self.deployment
                return replace(self, deployment=(generation + 1, len(self.versions)))
            case _ if number % 10 == 4:
                return replace(self, clusters=self.clusters | {f"c{number - 3}": "cordoned"})
            case _:
                left = {n: s for n, s in self.clusters.items() if n != f"c{number - 8}"}
                return replace(self, clusters=left)


async def perform(api: Operator, number: int, shown: Shown) -> Answer:
    """Do operation `number` of the script."""
    key = {"Idempotency-Key": f"operation-{number}"}
    match number % 5:
        case 0:
            return await put(api, "Region", f"r{number}", {"location": LOCATION}, key)
        case 1:
            body = {"spec": {"region": f"r{number - 1}"}}
            return await api.call("POST", f"/api/v1/clusters/c{number}/register", body, headers=key)
        case 2:
            return await api.push("m", f"weights {number}".encode(), headers=key)
        case 3:
            spec = {"model": "m", "version": len(shown.versions)}
            return await put(api, "Deployment", "d", spec, key)
        case _ if number % 10 == 4:
            return await api.call("POST", f"/api/v1/clusters/c{number - 3}/cordon", headers=key)
        case _:
            return await api.call("DELETE", f"/api/v1/clusters/c{number - 8}", headers=key)


async def put(api: Operator, kind: str, name: str, spec: object, key: dict[str, str]) -> Answer:
    document = {
        "apiVersion": "federation/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
    return await api.call("PUT", f"/api/v1/{kind.lower()}s/{name}", document, headers=key)


async def look(api: Operator) -> Shown:
    """Read back what is shown."""

    async def items(plural: str) -> list[Any]:
        listed: list[Any] = (await api.call("GET", f"/api/v1/{plural}")).json["items"]
        return listed

    models, deployments = await items("models"), await items("deployments")
    return Shown(
        regions=frozenset(r["metadata"]["name"] for r in await items("regions")),
        clusters={
            c["metadata"]["name"]: c["status"]["scheduling"] for c in await items("clusters")
        },
        versions=tuple(v["version"] for m in models for v in m["status"]["versions"]),
        deployment=next(
            ((d["metadata"]["generation"], d["spec"]["version"]) for d in deployments), (0, 0)
        ),
    )


async def audited(api: Operator) -> list[Any]:
    """Read the audit log, and fail unless it is whole."""
    head = (await api.call("GET", "/api/v1/audit/head")).json
    entries: list[Any] = (await api.call("GET", "/api/v1/audit")).json["entries"]
    assert chain.verify(entries) == Head(**head)
    return entries


class Victim:
    """A control plane as a process, on one state directory and one port for all its lives."""

    def __init__(self, state_dir: Path) -> None:
        self.http = free_block(2)
        grpc = self.http + 1
        self.state_dir = state_dir
        self._command = [sys.executable, "-m", "federation", "--state-dir", str(state_dir)]
        self._command += ["--http-listen", f"127.0.0.1:{self.http}"]
        self._command += ["--grpc-listen", f"127.0.0.1:{grpc}", "--log-level", "error"]

    @asynccontextmanager
    async def life(self) -> AsyncIterator[tuple[subprocess.Popen[bytes], Operator]]:
        """Start it, wait until it is ready, and kill it in the end."""
        process = subprocess.Popen(self._command)
        try:
            async with asyncio.timeout(PATIENCE_S):
                tls = await self._until_trusted(process)
            connector = aiohttp.TCPConnector(ssl=tls)
            async with aiohttp.ClientSession(connector=connector) as session:
                base = f"https://127.0.0.1:{self.http}"
                async with asyncio.timeout(PATIENCE_S):
                    await self._until_ready(process, session, f"{base}/readyz")
                token = (self.state_dir / "admin.token").read_text().strip()
                yield process, Operator(session, base, token)
        finally:
            process.kill()
            process.wait()

    async def _until_trusted(self, process: subprocess.Popen[bytes]) -> ssl.SSLContext:
        """Wait for the roots, which the first life makes."""
        while not (self.state_dir / "ca.pem").exists():
            assert process.poll() is None, "it did not start"
            await asyncio.sleep(0.03)
        return ssl.create_default_context(cafile=self.state_dir / "ca.pem")

    async def _until_ready(
        self, process: subprocess.Popen[bytes], session: aiohttp.ClientSession, url: str
    ) -> None:
        while True:
            assert process.poll() is None, "it did not start again"
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.03)


class Script:
    """Goes through the operations, over as many lives of the victim as it takes."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.number = 0
        self.acknowledged = Shown()
        self.in_doubt = False
        self.doubts = 0

    async def live(
        self, process: subprocess.Popen[bytes], api: Operator, *, operations: int
    ) -> None:
        """Check what a restart left, do some operations, and kill in the midst of one more."""
        shown = await look(api)
        allowed = [self.acknowledged]
        if self.in_doubt:
            allowed.append(self.acknowledged.after(self.number))
        assert shown in allowed
        told = await audited(api)
        assert self.number <= len(told) <= self.number + self.in_doubt
        for _ in range(operations):
            await self.step(api)
        if self.number < OPERATIONS:
            under_way = asyncio.create_task(self.step(api))
            await asyncio.sleep(self._dice.random() * 0.012)
            process.kill()
            try:
                await under_way
            except aiohttp.ClientError:
                self.in_doubt = True
                self.doubts += 1

    async def step(self, api: Operator) -> None:
        """Do the next operation, which may be a repetition."""
        if self.number >= OPERATIONS:
            return
        answer = await perform(api, self.number, self.acknowledged)
        assert answer.status in (200, 201), (self.number, answer.body)
        if self.number % 5 == 2:
            assert answer.json["version"] == len(self.acknowledged.versions) + 1
            assert answer.json["created"] is True
        self.acknowledged = self.acknowledged.after(self.number)
        self.number += 1
        self.in_doubt = False


@pytest.mark.e2e
@pytest.mark.timeout(240)
async def test_no_acknowledged_operation_is_lost(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    victim, script, lives = Victim(tmp_path), Script(dice), 0
    per_life = OPERATIONS // KILLS
    while script.number < OPERATIONS:
        async with victim.life() as (process, api):
            await script.live(process, api, operations=dice.randint(0, 2 * per_life - 2))
        lives += 1
    async with victim.life() as (_, api):
        assert await look(api) == script.acknowledged
        events = (await api.call("GET", "/api/v1/events")).json["items"]
        registered = [
            e["status"]["name"] for e in events if e["status"]["reason"] == "ClusterRegistered"
        ]
        assert len(registered) == len(set(registered)) == OPERATIONS // 5
        told = await audited(api)
        assert [entry["action"] for entry in told] == [action_of(n) for n in range(OPERATIONS)]
        await check_repetition(api, script)
        assert await audited(api) == told
    print(f"{lives} kills, {script.doubts} of them with an unknown outcome")
    assert lives > KILLS // 2


def action_of(number: int) -> str:
    """The event that operation `number` is."""
    actions = ["RegionApplied", "ClusterRegistered", "ModelVersionPushed", "DeploymentApplied"]
    last = "ClusterSchedulingChanged" if number % 10 == 4 else "ObjectRemoved"
    return [*actions, last][number % 5]


async def check_repetition(api: Operator, script: Script) -> None:
    """Repeating old operations under their keys changes nothing, and tells the same token."""
    still_there = next(
        n for n in range(1, OPERATIONS, 5) if f"c{n}" in script.acknowledged.clusters
    )
    first = await perform(api, still_there, script.acknowledged)
    again = await perform(api, still_there, script.acknowledged)
    assert first.json["joinToken"] == again.json["joinToken"]
    for number in (OPERATIONS - 1, OPERATIONS - 8):  # a deletion, a push
        assert (await perform(api, number, script.acknowledged)).status in (200, 201)
    assert await look(api) == script.acknowledged
