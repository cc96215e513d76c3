import asyncio
import gc
import random

import pytest

from benchmarks.snapshot import fleet, moved
from federation.contract.codec_snapshots import SnapshotWriter
from federation.contract.errors import Invalid
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb
from federation.runtime.clock import SystemClock
from router.membership.applying import Applier
from router.policy import table as tables
from router.state import RouterState
from tests.router.fakes import make_snapshot


def wire(snapshot: Snapshot) -> bytes:
    whole = SnapshotWriter().instruction(snapshot)
    return pb.RouterInstructionParts.FromString(whole).snapshot


def make() -> tuple[RouterState, Applier]:
    state = RouterState(name="r1", clock=SystemClock(), dice=random.Random(0))
    return state, Applier(state)


async def test_what_is_applied_is_what_building_it_whole_gives() -> None:
    state, applier = make()
    dice, snapshot = random.Random(3), fleet(50, 5, 2)
    for _ in range(5):
        snapshot = moved(snapshot, 7, dice)
        assert await applier.apply(wire(snapshot)) == snapshot
        assert state.table == tables.build(snapshot)
    assert gc.isenabled()


async def test_the_loop_has_turns_between_the_slices() -> None:
    _, applier = make()
    turns = 0

    async def beside() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(beside())
    await applier.apply(wire(fleet(1200, 10, 2)))
    task.cancel()
    assert turns > 8


async def test_what_is_bad_or_old_changes_nothing() -> None:
    state, applier = make()
    await applier.apply(wire(make_snapshot({"eu-1": "http://h:1"}, version=5)))
    table = state.table
    for data, words in (
        (wire(make_snapshot({}, version=4)), "older than 5"),
        (b"\xff", "no snapshot"),
        (pb.Snapshot(version=6, replicas=[pb.Replica(model="x")]).SerializeToString(), "unknown"),
    ):
        with pytest.raises(Invalid, match=words):
            await applier.apply(data)
    assert state.table is table
    assert gc.isenabled()
