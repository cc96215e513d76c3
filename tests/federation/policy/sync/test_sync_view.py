from dataclasses import replace

import pytest

from federation.contract.resources import DeploymentSpec, PrefetchSpec
from federation.contract.sync import SyncProgress
from federation.contract.types import VersionState
from federation.policy.sync.sync_view import SyncRow, sync_document, sync_rows
from tests.federation.policy.world import World

MOVING = SyncProgress(
    total_bytes=100,
    done_bytes=40,
    reused_bytes=10,
    from_origin_bytes=20,
    from_peers_bytes=15,
    bytes_per_second=5.0,
    eta_s=12.0,
)


@pytest.fixture
def world() -> World:
    world = World()
    world.cluster("b")
    world.cluster("a")
    world.push("m", "1", size=100)
    world.deploy(DeploymentSpec(model="m"))
    return world


def fetch(world: World, progress: SyncProgress) -> None:
    (seen,) = world.seen("a", VersionState.PENDING)
    world.report("a", [replace(seen, sync=progress)])


def row(world: World, cluster: str = "a") -> SyncRow:
    return next(row for row in sync_rows(world.state) if row.cluster == cluster)


def test_a_transfer_that_moves(world: World) -> None:
    fetch(world, MOVING)
    assert [r.cluster for r in sync_rows(world.state)] == ["a", "b"]
    assert row(world).running
    assert row(world).behind
    assert sync_document(row(world)) == {
        "model": "m",
        "version": 1,
        "cluster": "a",
        "region": "eu",
        "state": "pending",
        "stage_only": False,
        "urgency": "normal",
        "done_bytes": 40,
        "total_bytes": 100,
        "bytes_per_second": 5.0,
        "eta_s": 12.0,
        "from_origin_bytes": 20,
        "from_peers_bytes": 15,
        "reused_bytes": 10,
        "waiting": "",
        "reason": "",
    }


def test_what_was_not_reported_yet_has_its_size(world: World) -> None:
    told = sync_document(row(world, "b"))
    assert (told["done_bytes"], told["total_bytes"]) == (0, 100)
    assert told["reason"] == "assigned, not reported yet"
    assert not row(world, "b").running


def test_an_agent_cannot_tell_of_more_than_there_is(world: World) -> None:
    fetch(world, replace(MOVING, total_bytes=10**15, done_bytes=10**15))
    told = sync_document(row(world))
    assert (told["done_bytes"], told["total_bytes"]) == (100, 100)


def test_one_that_waits_and_one_that_is_whole(world: World) -> None:
    waiting = replace(MOVING, bytes_per_second=0.0, waiting="its window opens at 22:00")
    fetch(world, waiting)
    assert sync_document(row(world))["waiting"] == "its window opens at 22:00"
    assert not row(world).running
    (seen,) = world.seen("a")
    world.report("a", [replace(seen, sync=waiting)])
    told = sync_document(row(world))
    assert (told["done_bytes"], told["eta_s"], told["waiting"]) == (100, 0.0, "")
    assert not row(world).behind


def test_silence_stops_the_numbers(world: World) -> None:
    fetch(world, MOVING)
    world.advance(11)
    told = sync_document(row(world))
    assert told["waiting"] == "the cluster is out of contact"
    assert (told["bytes_per_second"], told["eta_s"]) == (0.0, 0.0)


def test_what_is_no_longer_assigned_is_not_behind(world: World) -> None:
    seen = world.seen("a", VersionState.CACHED)
    world.prefetch(PrefetchSpec(model="m", version=1))
    world.remove("Deployment", "d")
    assert (row(world).stage_only, row(world).urgency) == (True, "prefetch")
    world.remove("Prefetch", "p")
    world.report("a", seen)
    assert (row(world).urgency, row(world).behind) == ("", False)
