"""Agents and a router without engines and requests, that check what they are told.

Input: streams from a control plane that is killed again and again, and the journal of what it
committed. Output: reports and ACKs; an AssertionError as soon as a cluster is moved twice, loses
its stable version, or traffic goes back and forth.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc.aio

from federation.contract import codec, codec_rollout
from federation.contract.rollout import USER_BUCKETS, VersionCounts
from federation.contract.types import ObservedVersion, Snapshot, VersionState
from federation.contract.v1 import federation_pb2 as pb
from federation.trust.credentials import Credentials
from tests.e2e.rollout_journal import Journal
from tests.fakes.control_plane import Peer, agent_hello, agent_report, router_hello, stream_to

Key = tuple[str, int]  # model and version
LOST = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError)
ABSENT, STAGED, SERVING, GONE = range(4)


class Temper:
    """What versions do at all clusters, and what may happen to them."""

    def __init__(self) -> None:
        self.slow: set[Key] = set()  # they do not become warm
        self.broken: set[Key] = set()  # they fail
        self.stuck: set[Key] = set()  # they do not go when they are unassigned
        self.faulty: set[Key] = set()  # one request in three fails
        self.may_return: set[Key] = set()  # they were taken away, and are wanted again
        self.deleted: set[str] = set()  # models without a deployment


class World:
    """What agents, router and test share."""

    def __init__(self, address: str, journal: Journal) -> None:
        self.address = address
        self.journal = journal
        self.temper = Temper()
        self.alive = asyncio.Event()  # the control plane is ready
        self.changed = asyncio.Event()  # the temper has

    def nudge(self) -> None:
        """Have all agents report at once."""
        self.changed.set()
        self.changed = asyncio.Event()


class FakePeer:
    """Connects again after each end of its stream."""

    service = ""

    def __init__(self, world: World, name: str, credentials: Credentials) -> None:
        self.world, self.name, self.credentials = world, name, credentials
        self.streams = 0

    async def run(self) -> None:
        while True:
            await self.world.alive.wait()
            with suppress(*LOST):
                async with self._stream() as peer:
                    await self.live(peer)
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[Peer]:
        async with stream_to(self.world.address, self.service, self.credentials) as peer:
            self.streams += 1
            yield peer

    async def live(self, peer: Peer) -> None:
        """Speak over one stream until it ends."""
        raise NotImplementedError


async def beside(work: Any, other: Any) -> None:
    """Run both until the first of them ends; raises what it raised."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


class FakeAgent(FakePeer):
    service = "agent"

    def __init__(self, world: World, name: str, credentials: Credentials) -> None:
        super().__init__(world, name, credentials)
        self.generation = 0
        self.assigned: dict[Key, pb.AssignedVersion] = {}
        self.rank: dict[Key, int] = {}
        self.left: dict[Key, str] = {}  # what is not assigned any more, with its digest

    def serving(self, model: str) -> set[int]:
        """Return the versions of a model that it is to serve."""
        return {v for (m, v), a in self.assigned.items() if m == model and not a.stage_only}

    async def live(self, peer: Peer) -> None:
        await peer.call.write(agent_hello(self.name))
        welcome = (await self._next(peer, "welcome")).welcome
        first = (await self._next(peer, "assignment")).assignment
        self._obey(first)
        await beside(self._listen(peer), self._report(peer, welcome.epoch))

    async def _next(self, peer: Peer, kind: str) -> Any:
        while (message := await peer.call.read()) is not grpc.aio.EOF:
            if message.WhichOneof("body") == kind:
                return message
        raise asyncio.InvalidStateError

    async def _listen(self, peer: Peer) -> None:
        while (message := await peer.call.read()) is not grpc.aio.EOF:
            if message.WhichOneof("body") == "assignment":
                self._obey(message.assignment)
                self.world.nudge()

    async def _report(self, peer: Peer, epoch: int) -> None:
        sequence = 0
        while True:
            sequence += 1
            changed = self.world.changed
            await peer.call.write(
                agent_report(
                    self.name,
                    epoch,
                    sequence,
                    generation=self.generation,
                    versions=tuple(self._observed()),
                )
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await changed.wait()

    def _observed(self) -> list[ObservedVersion]:
        temper, found = self.world.temper, []
        for (model, version), told in self.assigned.items():
            state, reason = VersionState.WARMED, ""
            if told.stage_only:
                state = VersionState.STAGED
            elif (model, version) in temper.broken:
                state, reason = VersionState.FAILED, "opset 99 is not supported"
            elif (model, version) in temper.slow:
                state = VersionState.LOADED
            found.append(observed(model, version, told.digest, state, reason))
        for key, digest in self.left.items():
            stuck = key in temper.stuck
            state = VersionState.WARMED if stuck else VersionState.CACHED
            found.append(observed(*key, digest, state))
        return found

    def _obey(self, assignment: pb.Assignment) -> None:
        new = {(a.model, a.version): a for a in assignment.versions}
        where = f"{self.name}, generation {assignment.generation}"
        assert assignment.generation >= self.generation, f"{where} comes after {self.generation}"
        if assignment.generation == self.generation:
            assert new == self.assigned, f"{where} has two contents"
            return
        for key in {*new, *self.assigned}:
            self._move(key, new.get(key), where)
        self.generation, self.assigned = assignment.generation, new

    def _move(self, key: Key, told: pb.AssignedVersion | None, where: str) -> None:
        """Note what becomes of a version here: it comes once, and goes once."""
        before = self.rank.get(key, ABSENT)
        now = GONE if told is None else STAGED if told.stage_only else SERVING
        if before == GONE and key in self.world.temper.may_return:
            before = ABSENT
        assert now >= before, f"{where}: {key} was moved twice ({before} to {now})"
        self.rank[key] = now
        if told is not None:
            self.left.pop(key, None)
            return
        self.left[key] = self.assigned[key].digest
        self._check_may_go(key, where)

    def _check_may_go(self, key: Key, where: str) -> None:
        journal, (model, version) = self.world.journal, key
        journal.read()  # it was written before this was sent
        if model in self.world.temper.deleted or before_rank_is_staged(self, key):
            return
        rollouts = journal.of_model(model)
        if any(told.stable == version and told.phase == "promoted" for told in rollouts):
            return
        backwards = ("rolling-back", "rolled-back")
        assert any(told.canary == version and told.phase in backwards for told in rollouts), (
            f"{where}: {key} was taken away while it was the stable one"
        )


def before_rank_is_staged(agent: FakeAgent, key: Key) -> bool:
    """Whether a version only lay ready when it went."""
    return key in agent.assigned and agent.assigned[key].stage_only


def observed(
    model: str, version: int, digest: str, state: VersionState, reason: str = ""
) -> ObservedVersion:
    return ObservedVersion(
        model=model, version=version, digest=digest, state=state, reason=reason, replicas=1
    )


class FakeRouter(FakePeer):
    """Takes each snapshot at once, unless it is told to wait; counts requests that never were."""

    service = "router"

    def __init__(self, world: World, name: str, credentials: Credentials) -> None:
        super().__init__(world, name, credentials)
        self.snapshot = Snapshot(version=0)
        self.acknowledges = asyncio.Event()
        self.acknowledges.set()
        self.acknowledged = 0
        self._weights: dict[tuple[str, str], float] = {}  # of a rollout in a region
        self._ended: set[str] = set()
        self._default: dict[str, int] = {}
        self._sequence = 0

    def route(self, model: str) -> tuple[int, int]:
        """Return which version is the default one, and which the canary; 0 = none."""
        route = next((r for r in self.snapshot.models if r.name == model), None)
        if route is None:
            return 0, 0
        return route.default_version, route.canary.version if route.canary else 0

    async def live(self, peer: Peer) -> None:
        await peer.call.write(router_hello(self.name, held=self.acknowledged))
        await beside(self._listen(peer), self._count(peer))

    async def _listen(self, peer: Peer) -> None:
        while (message := await peer.call.read()) is not grpc.aio.EOF:
            if message.WhichOneof("body") == "snapshot":
                self._check(codec.snapshot_from_proto(message.snapshot))
                while not self.acknowledges.is_set() and not peer.call.done():
                    await asyncio.sleep(0.02)
                self.acknowledged = self.snapshot.version
                ack = pb.SnapshotAck(version=self.acknowledged)
                await peer.call.write(pb.RouterMessage(ack=ack))

    async def _count(self, peer: Peer) -> None:
        while True:
            await asyncio.sleep(0.5)
            self._sequence += 1
            counts = [one for key in sorted(self.world.temper.faulty) for one in self._counts(*key)]
            if counts:
                proto = codec_rollout.counts_to_proto(self._sequence, counts)
                await peer.call.write(pb.RouterMessage(counts=proto))

    def _counts(self, model: str, canary: int) -> list[VersionCounts]:
        """Return what it would have counted by now: the canary fails one request in three."""
        each = (3 * self._sequence,) * USER_BUCKETS
        errors = {canary: (self._sequence,) * USER_BUCKETS}
        return [
            VersionCounts(
                model=model,
                version=version,
                region=region,
                requests=each,
                errors=errors.get(version, ()),
                latency={80: 3 * self._sequence * USER_BUCKETS},
            )
            for version in (1, canary)
            for region in ("eu", "us")
        ]

    def _check(self, new: Snapshot) -> None:
        assert new.version > self.snapshot.version, "a snapshot came twice"
        regions = {e.cluster: e.region for e in new.endpoints}
        warm = {(r.model, r.version, regions[r.cluster]) for r in new.replicas}
        canaries = set()
        self.world.journal.read()
        for route in new.models:
            self._check_default(route.name, route.default_version)
            if route.canary is None:
                continue
            rollout, version = route.canary.rollout, route.canary.version
            canaries.add(rollout)
            assert rollout not in self._ended, f"{rollout} came back to the routers"
            weights = route.canary.weights
            for region in ("eu", "us", "frost"):
                before, share = self._weights.get((rollout, region), 0.0), weights.get(region, 0.0)
                assert before <= share <= 100, f"{rollout} went from {before} to {share} %"
                self._weights[rollout, region] = share
                if share and (route.name, version) not in self.world.temper.broken:
                    there = (route.name, version, region) in warm
                    assert there, f"{rollout} has {share} % in {region} and is not warm there"
        told = {rollout for rollout, _ in self._weights}
        self._ended |= told - canaries
        self.snapshot = new

    def _check_default(self, model: str, version: int) -> None:
        before = self._default.get(model, version)
        self._default[model] = version
        promoted = self.world.journal.promoted(model, version)
        assert version == before or promoted, f"{model} moved from {before} to {version}"
