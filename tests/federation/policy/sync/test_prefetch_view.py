from dataclasses import replace
from typing import Any

import pytest

from federation.contract.resources import ClusterSpec, PrefetchSpec
from federation.contract.sync import SyncProgress
from federation.contract.types import Runtime, VersionState
from federation.policy.sync.prefetch_view import prefetch_status
from tests.federation.policy.world import World


@pytest.fixture
def world() -> World:
    world = World()
    for name in ("a", "b"):
        world.cluster(name)
    world.cluster("n", spec=ClusterSpec(region="eu"))
    world.push("m", runtime=Runtime.PYTHON, size=100)
    world.prefetch(PrefetchSpec(model="m", version=1))
    return world


def status(world: World) -> dict[str, Any]:
    return prefetch_status(world.state, world.state.prefetches["p"], world.now)


def test_it_tells_for_each_cluster_how_far_it_is_or_why_not(world: World) -> None:
    (seen,) = world.seen("a", VersionState.PENDING)
    progress = SyncProgress(total_bytes=100, done_bytes=30, waiting="behind a rollback")
    world.report("a", [replace(seen, sync=progress)])
    told = status(world)
    assert (told["size"], told["ready"], told["ready_at"], told["wanted"]) == (100, False, 0, 2)
    assert told["reason"] == "it is ready at 0 of 2 clusters"
    assert told["clusters"][0] == {
        "cluster": "a",
        "region": "eu",
        "state": "pending",
        "ready": False,
        "done_bytes": 30,
        "reason": "behind a rollback",
    }
    ((cluster, reason),) = [(c["cluster"], c["reason"]) for c in told["cannot"]]
    assert cluster == "n"
    assert "allow_code" in reason


def test_ready_means_verified_everywhere_and_in_contact(world: World) -> None:
    for name in ("a", "b"):
        world.report(name, world.seen(name, VersionState.STAGED))
    assert status(world)["ready_at"] == 0, "its bytes are there, not verified"
    for name in ("a", "b"):
        world.serve(name)
    told = status(world)
    assert (told["ready"], told["reason"], told["ready_at"]) == (True, "", 2)
    assert [c["done_bytes"] for c in told["clusters"]] == [100, 100]
    world.advance(11)
    told = status(world)
    assert (told["ready"], told["ready_at"]) == (False, 0)
    assert told["clusters"][0]["reason"] == "no report for 11 s"


def test_nobody_was_selected(world: World) -> None:
    world.region("us")
    world.prefetch(PrefetchSpec(model="m", version=1, regions=("us",)))
    assert status(world)["reason"] == "no cluster was given it"
    assert status(world)["ready"] is False
