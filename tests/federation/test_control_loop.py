import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from federation.contract.errors import Conflict, Invalid, NotFound, Unavailable
from federation.contract.resources import ClusterSpec, DeploymentSpec, RegionSpec
from federation.contract.spiffe import PeerRole
from federation.contract.types import Location
from federation.control_loop import UNWRITTEN_REVISIONS, Constants, ControlLoop
from federation.policy.audit.events import AppendAudit
from federation.policy.events import (
    AgentReported,
    Applied,
    ClusterApplied,
    Delete,
    DeploymentApplied,
    Idempotency,
    Put,
    RegionApplied,
    TimePassed,
)
from federation.policy.membership.events import PeerRevoked
from federation.publisher import Closed, FellBehind, Publisher
from federation.runtime.clock import ManualClock, SystemClock
from federation.store.base import Loaded, Store
from federation.store.memory import MemoryStore
from federation.store.sqlite import SqliteStore
from tests.federation.policy.world import World


def region(name: str, latitude: float = 1, *, expected: int | None = None) -> RegionApplied:
    spec = RegionSpec(location=Location(latitude=latitude, longitude=1))
    return RegionApplied(actor="ada", name=name, spec=spec, expected=expected)


class Slow(MemoryStore):
    """Commits when it is let, and can be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Sequence[Put | Delete | AppendAudit]] = []
        self.fail = False

    def commit(self, batch: Sequence[Put | Delete | AppendAudit], revision: int) -> None:
        if self.fail:
            raise OSError("disk full")
        super().commit(batch, revision)
        self.batches.append(batch)


@asynccontextmanager
async def running(
    store: Store, *, publisher: Publisher | None = None, clock: ManualClock | None = None
) -> AsyncIterator[ControlLoop]:
    loop = ControlLoop(
        store=store, publisher=publisher or Publisher(), clock=clock or ManualClock()
    )
    task = asyncio.get_running_loop().create_task(loop.run())
    try:
        await asyncio.wait_for(loop.ready(), 5)
        yield loop
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def play(loop: ControlLoop, world: World) -> None:
    """Give the loop the records of a world, as if it had decided all of it."""
    batch = [c for c in world.commands if isinstance(c, Put | Delete)]
    loop._store.commit(batch, world.state.revision)


async def test_an_answer_means_that_it_is_stored() -> None:
    store = MemoryStore()
    async with running(store) as loop:
        result = await loop.submit(region("eu"))
        assert result == Applied(kind="Region", name="eu", created=True)
        assert "eu" in store.load().records["Region"]


async def test_waiting_events_share_one_commit() -> None:
    store = Slow()
    async with running(store) as loop:
        names = [f"r{n}" for n in range(50)]
        await asyncio.gather(*(loop.submit(region(name)) for name in names))
        assert set(loop.state.regions) == set(names)
        assert loop.commits_total <= 2
        assert loop.events_total["RegionApplied"] == 50


async def test_a_refusal_goes_to_its_submitter_only() -> None:
    async with running(MemoryStore()) as loop:
        answers = await asyncio.gather(
            loop.submit(region("eu")),
            loop.submit(region("NO")),
            loop.submit(region("us")),
            return_exceptions=True,
        )
        assert isinstance(answers[1], Invalid)
        assert set(loop.state.regions) == {"eu", "us"}
        assert loop.refused_total == {"invalid": 1}


async def test_events_are_decided_in_the_order_of_arrival() -> None:
    async with running(MemoryStore()) as loop:
        answers = await asyncio.gather(
            loop.submit(region("eu", 1, expected=0)),
            loop.submit(region("eu", 2, expected=0)),
            return_exceptions=True,
        )
        assert isinstance(answers[0], Applied)
        assert isinstance(answers[1], Conflict)
        assert loop.state.regions["eu"].spec.location.latitude == 1


async def test_a_failing_commit_stops_the_loop_and_a_restart_forgets_what_was_not_stored() -> None:
    store = Slow()
    loop = ControlLoop(store=store, publisher=Publisher(), clock=ManualClock())
    task = asyncio.get_running_loop().create_task(loop.run())
    await loop.submit(region("eu"))
    store.fail = True
    with pytest.raises(Unavailable, match="stopped before it answered"):
        await loop.submit(region("us"))
    with pytest.raises(OSError, match="disk full"):
        await task
    assert not loop.is_ready
    with pytest.raises(Unavailable):
        await loop.submit(region("us"))
    store.fail = False
    task = asyncio.get_running_loop().create_task(loop.run())
    await asyncio.wait_for(loop.ready(), 5)
    assert set(loop.state.regions) == {"eu"}
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_bug_in_a_decider_stops_the_loop_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError

    loop = ControlLoop(store=MemoryStore(), publisher=Publisher(), clock=ManualClock())
    task = asyncio.get_running_loop().create_task(loop.run())
    await loop.ready()
    monkeypatch.setattr("federation.control_loop.decide_among", bug)
    with pytest.raises(Unavailable):
        await loop.submit(region("eu"))
    with pytest.raises(ZeroDivisionError):
        await task


async def test_those_who_wait_when_it_stops_are_answered() -> None:
    store = MemoryStore()
    async with running(store) as loop:
        waiting = asyncio.gather(
            *(loop.submit(region(f"r{n}")) for n in range(3)), return_exceptions=True
        )
        await asyncio.sleep(0)
    answers = await asyncio.wait_for(waiting, 5)
    assert {type(answer) for answer in answers} == {Unavailable}


async def test_a_submitter_that_stops_waiting_harms_nobody() -> None:
    async with running(MemoryStore()) as loop:
        impatient = asyncio.get_running_loop().create_task(loop.submit(region("eu")))
        await asyncio.sleep(0)
        impatient.cancel()
        await loop.submit(region("us"))
        assert set(loop.state.regions) == {"eu", "us"}


async def test_the_same_key_gets_the_same_answer_also_after_a_restart() -> None:
    store, key = MemoryStore(), Idempotency(key="k", fingerprint="f")
    async with running(store) as loop:
        first, second = await asyncio.gather(
            loop.submit(region("eu"), idempotency=key), loop.submit(region("eu"), idempotency=key)
        )
        assert first == second
    async with running(store) as loop:
        assert await loop.submit(region("eu"), idempotency=key) == first
        with pytest.raises(Invalid) as refusal:
            await loop.submit(region("us"), idempotency=replace(key, fingerprint="g"))
        assert refusal.value.reason == "idempotency-key-reused"


async def test_a_preview_changes_nothing() -> None:
    async with running(MemoryStore()) as loop:
        before = loop.state.copy()
        state, result = loop.preview(region("eu"))
        assert "eu" in state.regions
        assert result == Applied(kind="Region", name="eu", created=True)
        assert loop.state == before
        with pytest.raises(NotFound):
            loop.preview(ClusterApplied(actor="ada", name="c", spec=ClusterSpec(region="eu")))


async def test_restarts_keep_everything_and_number_snapshots_upwards(tmp_path: Path) -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    world.serve("c")
    snapshots = []
    for _ in range(2):
        store, publisher = SqliteStore(tmp_path), Publisher()
        async with running(store, publisher=publisher) as loop:
            if not loop.state.regions:
                await play(loop, world)
            snapshots.append(publisher.snapshot)
        store.close()
    store, publisher = SqliteStore(tmp_path), Publisher()
    async with running(store, publisher=publisher) as loop:
        assert loop.state.clusters == world.state.clusters
        assert loop.state.deployments == world.state.deployments
        snapshots.append(publisher.snapshot)
    store.close()
    assert [s.version for s in snapshots] == [1 << 32 | 1, 2 << 32 | 1, 3 << 32 | 1]
    assert replace(snapshots[2], version=1) == world.snapshot()


async def test_snapshots_are_sent_only_when_they_differ() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    store, publisher = MemoryStore(), Publisher()
    store.commit([c for c in world.commands if isinstance(c, Put | Delete)], 99)
    async with running(store, publisher=publisher) as loop:
        first = publisher.snapshot.version
        spec = DeploymentSpec(model="m")
        await loop.submit(DeploymentApplied(actor="ada", name="d", spec=spec))
        assert publisher.snapshot.version == first + 1
        await loop.submit(region("elsewhere"))
        assert publisher.snapshot.version == first + 1


async def test_reports_write_only_what_is_new() -> None:
    world = World()
    world.cluster("c")
    store = Slow()
    store.commit([c for c in world.commands if isinstance(c, Put | Delete)], 99)
    async with running(store) as loop:
        loop.state.presences.update(world.state.presences)
        before = loop.commits_total
        reports = [replace(world.make_report("c"), sequence=n) for n in range(2, 12)]
        for report in reports:
            assert await loop.submit(AgentReported(report=report)) is True
        assert await loop.submit(AgentReported(report=reports[0])) is False
        assert loop.commits_total == before
        assert loop.state.ignored_reports == 1


async def test_agents_and_watchers_hear_of_what_is_committed() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    store, publisher = MemoryStore(), Publisher()
    store.commit([c for c in world.commands if isinstance(c, Put | Delete)], 99)
    async with running(store, publisher=publisher) as loop:
        start = loop.state.revision
        assert start == 99 + UNWRITTEN_REVISIONS
        epoch = world.state.clusters["c"].epoch
        with publisher.agent_subscription("c", epoch) as assignments:
            spec = DeploymentSpec(model="m")
            await loop.submit(DeploymentApplied(actor="ada", name="d", spec=spec))
            assignment = await asyncio.wait_for(assignments.take(), 1)
            assert [(v.model, v.version) for v in assignment.versions] == [("m", 1)]
        changes = publisher.changes_after(start)
        assert [c.revision for c in changes] == sorted({c.revision for c in changes})
        assert {(c.kind, c.name) for c in changes if c.kind != "Event"} == {
            ("Deployment", "d"),
            ("Cluster", "c"),
        }
        with pytest.raises(FellBehind):
            publisher.changes_after(99)


async def test_a_loop_that_starts_anew_asks_agents_to_connect_again() -> None:
    world = World()
    world.cluster("c")
    store, publisher = MemoryStore(), Publisher()
    store.commit([c for c in world.commands if isinstance(c, Put | Delete)], 99)
    epoch = world.state.clusters["c"].epoch
    with publisher.agent_subscription("c", epoch) as assignments:
        async with running(store, publisher=publisher):
            with pytest.raises(Closed, match="connect again"):
                await asyncio.wait_for(assignments.take(), 1)


async def test_leases_end_by_the_clock() -> None:
    world = World()
    world.cluster("c")
    store, publisher, clock = MemoryStore(), Publisher(), ManualClock()
    store.commit([c for c in world.commands if isinstance(c, Put | Delete)], 99)
    async with running(store, publisher=publisher, clock=clock) as loop:
        assert publisher.snapshot.endpoints[0].present
        clock.advance(11)
        await loop.submit(TimePassed())
        assert not publisher.snapshot.endpoints[0].present


async def test_the_timer_needs_no_event_to_wake_up() -> None:
    world = World()
    world.cluster("c")
    store, publisher = MemoryStore(), Publisher()
    store.commit([c for c in world.commands if isinstance(c, Put | Delete)], 99)
    constants = Constants(lease=timedelta(0))
    loop = ControlLoop(store=store, publisher=publisher, clock=SystemClock(), constants=constants)
    with publisher.router_subscription() as snapshots:
        task = asyncio.get_running_loop().create_task(loop.run())
        first = await asyncio.wait_for(snapshots.take(), 5)
        assert first.endpoints[0].present
        second = await asyncio.wait_for(snapshots.take(), 5)
        assert not second.endpoints[0].present
        assert loop.events_total == {"TimePassed": 1}
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_revisions_without_writes_are_written_before_they_could_repeat() -> None:
    store = Slow()
    async with running(store) as loop:
        loop.state.revision += UNWRITTEN_REVISIONS // 2
        await loop.submit(TimePassed())
        assert store.batches[-1] == []
        loaded: Loaded = store.load()
        assert loaded.revision == loop.state.revision


async def test_a_loop_shows_itself_in_a_line() -> None:
    async with running(MemoryStore()) as loop:
        await loop.submit(region("eu"))
        assert repr(loop).startswith("ControlLoop(ready, inbox=0, State(revision=")
        assert loop.last_step_s >= 0


async def test_trust_grows_with_each_change_and_over_restarts() -> None:
    world = World()
    world.cluster("c")
    store, publisher, clock = MemoryStore(), Publisher(), ManualClock(world.now)
    await play_into(store, world)
    roots = ["one"]
    loop = ControlLoop(store=store, publisher=publisher, clock=clock, roots=lambda: tuple(roots))
    loop.publish_trust()
    assert publisher.trust.newest is None  # nothing is known before the first start
    versions: list[int] = []
    newest = None
    for _ in range(2):
        task = asyncio.get_running_loop().create_task(loop.run())
        await asyncio.wait_for(loop.ready(), 5)
        first = publisher.trust.newest
        assert first is not None
        loop.publish_trust()
        assert publisher.trust.newest is first  # nothing changed
        roots.append("another")
        loop.publish_trust()
        await loop.submit(PeerRevoked(actor="ada", role=PeerRole.CLUSTER, name="c"))
        newest = publisher.trust.newest
        assert newest is not None
        versions += [first.version, newest.version]
        assert newest.roots == tuple(roots)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert versions == sorted(set(versions))
    assert newest is not None
    assert [r.uri for r in newest.revoked] == ["spiffe://federation.internal/cluster/c"]


async def test_a_router_that_is_revoked_is_closed_after_everyone_was_told() -> None:
    world = World()
    world.router(reverse_address="192.0.2.1:7402")
    generation = world.state.registered_routers["r"].membership.generation
    store, publisher = MemoryStore(), Publisher()
    await play_into(store, world)
    async with running(store, publisher=publisher, clock=ManualClock(world.now)) as loop:
        (told,) = publisher.router_addresses.newest or ()
        assert told.reverse_address == "192.0.2.1:7402"
        with publisher.router_subscription("r", generation) as snapshots:
            await snapshots.take()
            await loop.submit(PeerRevoked(actor="ada", role=PeerRole.ROUTER, name="r"))
            with pytest.raises(Closed, match="revoked"):
                await snapshots.take()
        assert publisher.router_addresses.newest == ()
        assert publisher.trust.newest is not None
        assert publisher.trust.newest.refuses("spiffe://federation.internal/router/r", generation)


async def play_into(store: MemoryStore, world: World) -> None:
    store.commit([c for c in world.commands if isinstance(c, Put | Delete)], world.state.revision)


def test_constants_do_not_show_the_pepper() -> None:
    assert "secret" not in repr(Constants(pepper="secret"))
