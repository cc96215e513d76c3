"""`kill -9` of the control plane at each transition of a rollout: it goes on from exactly there.

A control plane on disk kills itself before, at or shortly after the commit of each transition of
the table, while agents and a router speak to it over mutual TLS. Each life must begin where the
last one ended; each passage is committed once; no cluster is given or loses a version twice, or its
stable version too early; the canary's share of traffic only rises until it is gone.

FED_TEST_KILLS is about how many kills there are: by default each transition is hit once, at one of
these moments; with 144 of them, at each.
"""

import asyncio
import itertools
import json
import os
import random
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from federation.contract.spiffe import PeerRole
from tests.e2e.doomed_plane import JOURNAL
from tests.e2e.rollout_journal import TABLE, Journal, Turn
from tests.e2e.rollout_peers import FakeAgent, FakeRouter, World
from tests.e2e.rollout_plays import ALONE, TOGETHER, Performance, Stage
from tests.engines.ports import free_block
from tests.fakes.control_plane import Operator

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = ("before", "after", "later")
MOST_KILLS = int(os.environ.get("FED_TEST_KILLS", len(TABLE)))
ROUNDS = max(1, MOST_KILLS // len(TABLE))
CLUSTERS = {"eu-1": "eu", "us-1": "us", "us-2": "us", "frost-1": "frost"}
PATIENCE_S = 60.0
AGAIN = 6  # times that plays are run until all transitions were hit
# A rollout that waits has a newer target than its deployment only if another one brought the
# deployment there meanwhile: but who begins later takes the place of who waits.
UNREACHABLE: dict[Turn, str] = {
    ("pending", "refused"): "nothing that a person can do makes a waiting canary the stable one",
}


class Doomed:
    """The control plane, over all its lives."""

    def __init__(self, folder: Path) -> None:
        self.http = free_block(2)
        self.grpc_address = f"127.0.0.1:{self.http + 1}"
        self.state_dir = folder / "state"
        self.journal = Journal(folder / "journal")
        self.lives = 0
        self._pid = 0
        self._process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def forge(self) -> AsyncIterator[None]:
        """Start the process of which each life is a copy."""
        command = ["-m", "tests.e2e.doomed_plane", "--state-dir", str(self.state_dir)]
        command += ["--http-listen", f"127.0.0.1:{self.http}", "--log-level", "error"]
        command += ["--grpc-listen", self.grpc_address]
        pipe, environ = asyncio.subprocess.PIPE, {JOURNAL: str(self.journal.path)}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdin=pipe, stdout=pipe, cwd=ROOT, env=os.environ | environ
        )
        try:
            yield
        finally:
            self._kill()
            assert self._process.stdin
            self._process.stdin.close()
            await self._process.wait()

    def _kill(self) -> None:
        if self._pid:
            os.kill(self._pid, 9)
            self._pid = 0

    @asynccontextmanager
    async def life(self, doom: dict[Turn, str]) -> AsyncIterator["asyncio.Task[Any]"]:
        """Live once; yields what ends when the control plane is killed."""
        assert self._process
        assert self._process.stdin
        line = json.dumps([[*turn, moment] for turn, moment in doom.items()])
        self._process.stdin.write(line.encode() + b"\n")
        self._pid = (await self._told())["pid"]
        death = asyncio.ensure_future(self._told())
        self.lives += 1
        try:
            yield death
        finally:
            if not death.done():
                self._kill()
            self._pid = 0
            assert (await death)["status"] == -9

    async def _told(self) -> Any:
        assert self._process
        assert self._process.stdout
        return json.loads(await self._process.stdout.readline())

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Operator]:
        """A client for all lives; the first one must have begun."""
        async with asyncio.timeout(PATIENCE_S):
            while not all((self.state_dir / n).exists() for n in ("ca.pem", "admin.token")):
                await asyncio.sleep(0.02)
        tls = ssl.create_default_context(cafile=self.state_dir / "ca.pem")
        token = (self.state_dir / "admin.token").read_text().strip()
        connector = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Operator(session, f"https://127.0.0.1:{self.http}", token)


async def until_ready(api: Operator, death: "asyncio.Task[Any]") -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not death.done():
            try:
                if (await api.call("GET", "/readyz")).status == 200:
                    return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.02)


async def set_up(api: Operator, world: World) -> Stage:
    """Register and join all clusters and the router."""
    agents = []
    for name, region in CLUSTERS.items():
        credentials = await api.join(await api.register(name, region))
        agents.append(FakeAgent(world, name, credentials))
    router = FakeRouter(world, "r", await api.member("r", PeerRole.ROUTER))
    return Stage(world, api, agents, router, itertools.count(1), itertools.count(1))


class Killer:
    """Runs plays over as many lives as it takes, until all that was wanted was hit."""

    def __init__(self, doomed: Doomed, stage: Stage, dice: random.Random) -> None:
        self.doomed, self.stage, self.dice = doomed, stage, dice
        self.wanted: dict[Turn, str] = {}
        self._noted = 0  # kills of the journal
        self._takes: dict[Performance, set[Turn]] = {}

    async def run(self) -> None:
        turns = [turn for turn in TABLE if turn not in UNREACHABLE]
        first = {turn: self.dice.randrange(len(MOMENTS)) for turn in turns}
        for number in range(ROUNDS):
            self.wanted = {t: MOMENTS[(first[t] + number) % len(MOMENTS)] for t in turns}
            async with asyncio.TaskGroup() as group:
                plays = group.create_task(self._plays())
                group.create_task(self._lives(plays))
            assert not self.wanted, f"never killed at {sorted(map(str, self.wanted))}"

    async def _plays(self) -> None:
        """Run all plays; then again those with transitions at which it was just being killed."""
        together, alone = TOGETHER, ALONE
        for _ in range(AGAIN):
            async with asyncio.TaskGroup() as group:
                for play in together:
                    group.create_task(self._play(play))
            for play in alone:
                await self._play(play)
            self._note()
            together = tuple(play for play in TOGETHER if self._takes[play] & self.wanted.keys())
            alone = tuple(play for play in ALONE if self._takes[play] & self.wanted.keys())

    async def _play(self, play: Performance) -> None:
        model = await play(self.stage)
        rollouts = self.doomed.journal.of_model(model)
        self._takes[play] = {turn for told in rollouts for turn in told.turns}

    def _note(self) -> None:
        self.doomed.journal.read()
        killed = self.doomed.journal.killed
        for turn, moment in killed[self._noted :]:
            if self.wanted.get(turn) == moment:
                del self.wanted[turn]
        self._noted = len(killed)

    async def _lives(self, plays: "asyncio.Task[None]") -> None:
        world = self.stage.world
        while not plays.done():
            async with self.doomed.life(self.wanted) as death:
                await until_ready(self.stage.api, death)
                await self._check_shown(death)
                world.alive.set()
                await asyncio.wait([plays, death], return_when=asyncio.FIRST_COMPLETED)
                world.alive.clear()
            self._note()

    async def _check_shown(self, death: "asyncio.Task[Any]") -> None:
        """What the API shows after a start goes on from what was committed before it."""
        journal = self.doomed.journal
        journal.read()
        before = {n: [*told.events] for n, told in journal.rollouts.items() if not told.forgotten}
        try:
            shown = (await self.stage.api.call("GET", "/api/v1/rollouts")).json["items"]
        except (aiohttp.ClientError, TimeoutError):
            assert death.done()
            return
        events = {
            each["metadata"]["name"]: [passage["event"] for passage in each["status"]["history"]]
            for each in shown
        }
        for name, told in before.items():
            assert events[name][: len(told)] == told


@pytest.mark.e2e
@pytest.mark.timeout(300 + 240 * ROUNDS)
async def test_a_rollout_goes_on_from_where_it_was_killed(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    doomed = Doomed(tmp_path)
    world = World(doomed.grpc_address, doomed.journal)
    async with doomed.forge():
        async with doomed.life({}) as death, doomed.operator() as api:
            await until_ready(api, death)
            stage = await set_up(api, world)
        async with doomed.operator() as api:
            stage.api = api
            killer = Killer(doomed, stage, random.Random(seed))
            followers = [doomed.journal.follow, *(a.run for a in stage.agents), stage.router.run]
            try:
                await with_followers(killer.run, followers)
            finally:
                print_table(doomed)
    assert all(agent.streams > len(TABLE) // 2 for agent in stage.agents)


async def with_followers(
    work: Callable[[], Awaitable[None]], followers: list[Callable[[], Any]]
) -> None:
    """Do some work while others go on that end only by failing."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follower()) for follower in followers]
        await work()
        for task in tasks:
            task.cancel()


def print_table(doomed: Doomed) -> None:
    """Say at which transitions it was killed, how often and when."""
    found: dict[Turn, Counter[str]] = {turn: Counter() for turn in TABLE}
    for turn, moment in doomed.journal.killed:
        found[turn][moment] += 1
    for (was, event), moments in found.items():
        told = ", ".join(f"{n} {moment}" for moment, n in sorted(moments.items()))
        why = UNREACHABLE.get((was, event), "NOT")
        print(f"{was or '-':>14} {event:<22} {told or why}")
    print(f"{doomed.lives} lives, {len(doomed.journal.rollouts)} rollouts")
