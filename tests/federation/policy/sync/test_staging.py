"""What lies ready where, and how that lives with what is deployed."""

import pytest

from federation.contract.capacity import Resources
from federation.contract.resources import ClusterSpec, DeploymentSpec, PrefetchSpec
from federation.contract.sync import Disk, SyncSpec
from federation.contract.types import EngineKind, Runtime, Scheduling, Urgency
from federation.policy.events import ClusterApplied
from federation.policy.rooms import Rooms
from federation.policy.sync.staging import stage, stagings
from tests.federation.policy.world import ACTOR, World


@pytest.fixture
def world() -> World:
    """Clusters e (with labels) and u serve m@1; m@2 is pushed."""
    world = World()
    world.region("eu")
    world.cluster("e", spec=ClusterSpec(region="eu", labels={"tier": "a"}))
    world.cluster("u", "us")
    world.push("m", "1")
    world.deploy(DeploymentSpec(model="m", version=1))
    for name in ("e", "u"):
        world.serve(name)
    world.push("m", "2")
    return world


def test_a_prefetched_version_is_assigned_behind_all_others_and_not_served(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=2, regions=("eu",)))
    assert world.assigned("e") == [("m", 1), ("m", 2)]
    assert world.staged("e") == [("m", 2)]
    assert world.urgency("e", 2) is Urgency.PREFETCH
    assert world.assigned("u") == [("m", 1)]
    world.serve("e")
    assert {(r.version, r.cluster) for r in world.snapshot().replicas} == {(1, "e"), (1, "u")}
    told = list(world.state.audit.values())[-1].message
    assert told == "cluster 'e' shall serve m 1 and have ready m 2."


def test_a_version_that_is_still_warm_is_not_routed_to_once_it_shall_only_lie_ready() -> None:
    world = World()
    world.cluster("c")
    world.push("m", "1")
    world.push("m", "2")
    world.deploy(DeploymentSpec(model="m", version=2, pinned_versions=(1,)))
    world.serve("c")
    world.prefetch(PrefetchSpec(model="m", version=1))
    assert world.staged("c") == []
    world.deploy(DeploymentSpec(model="m", version=2))
    assert world.staged("c") == [("m", 1)]
    assert [r.version for r in world.snapshot().replicas] == [2]


def test_a_deployment_loads_what_lies_ready_and_a_removal_leaves_it_there(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=2))
    world.deploy(DeploymentSpec(model="m", version=2))
    assert world.staged("e") == []
    assert world.urgency("e", 2) is Urgency.NORMAL
    world.serve("e")
    assert world.assigned("e") == [("m", 2)]
    world.remove("Deployment", "d")
    assert (world.assigned("e"), world.staged("e")) == ([("m", 2)], [("m", 2)])
    world.remove("Prefetch", "p")
    assert world.assigned("e") == []


def test_the_old_version_stays_loaded_until_its_successor_is_warm(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=1))
    world.deploy(DeploymentSpec(model="m", version=2))
    assert world.staged("e") == []
    world.report("e", world.seen("e"))
    assert world.staged("e") == [("m", 1)]


def test_labels_and_several_prefetches(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=2, cluster_labels={"tier": "a"}))
    assert (world.staged("e"), world.staged("u")) == ([("m", 2)], [])
    world.prefetch(PrefetchSpec(model="m", version=2, regions=("us",)), "q")
    assert world.staged("u") == [("m", 2)]
    world.remove("Prefetch", "p")
    assert (world.staged("e"), world.staged("u")) == ([], [("m", 2)])
    assert [s.version.version for s in stagings(world.state)["m"]] == [2]


def test_it_may_be_about_a_model_that_nobody_deploys(world: World) -> None:
    world.push("n")
    world.prefetch(PrefetchSpec(model="n", version=1))
    assert world.staged("u") == [("n", 1)]
    world.serve("u")
    assert [m.name for m in world.snapshot().models] == ["m"]


def test_a_cordoned_cluster_keeps_what_it_was_to_stage_and_gets_nothing_new(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=2, regions=("eu",)))
    for scheduling in (Scheduling.CORDONED, Scheduling.DRAINING):
        world.schedule("e", scheduling)
        world.schedule("u", scheduling)
        world.prefetch(PrefetchSpec(model="m", version=2))
        assert (world.staged("e"), world.staged("u")) == ([("m", 2)], [])
    world.remove("Prefetch", "p")
    assert world.staged("e") == [], "nothing is in flight there: it goes at once"


def test_code_and_engines_bar_it_as_they_bar_a_deployment(world: World) -> None:
    world.cluster("r", engine=EngineKind.RAY_SERVE)
    world.push("n", runtime=Runtime.PYTHON)
    world.push("t", runtime=Runtime.TRITON)
    world.prefetch(PrefetchSpec(model="n", version=1))
    world.prefetch(PrefetchSpec(model="t", version=1), "t")
    assert world.staged("e") == [], "it allows no code"
    assert world.staged("u") == [("n", 1), ("t", 1)]
    assert world.staged("r") == [("n", 1)], "its engine cannot run the other"
    world.do(ClusterApplied(actor=ACTOR, name="u", spec=ClusterSpec(region="us")))
    assert world.staged("u") == [], "the permission was withdrawn"


def test_gpus_do_not_count_and_disk_does(world: World) -> None:
    world.push("n", size=10 << 30)
    world.deploy(DeploymentSpec(model="n", resources=Resources(gpus=8)), "n")
    world.prefetch(PrefetchSpec(model="n", version=1))
    assert ("n", 1) in world.staged("e")
    world.remove("Prefetch", "p")
    world.report("e", world.seen("e"), disk=Disk(used_bytes=1 << 30, free_bytes=8 << 30))
    world.prefetch(PrefetchSpec(model="n", version=1))
    assert (world.staged("e"), world.staged("u")) == ([], [("n", 1)])
    small = ClusterSpec(region="us", allow_code=True, sync=SyncSpec(disk_budget_gib=9.5))
    world.do(ClusterApplied(actor=ACTOR, name="u", spec=small))
    assert world.staged("u") == [("n", 1)], "what was given stays"
    world.remove("Prefetch", "p")
    world.prefetch(PrefetchSpec(model="n", version=1))
    assert world.staged("u") == []


def test_what_is_served_is_not_staged_as_well(world: World) -> None:
    world.prefetch(PrefetchSpec(model="m", version=2))
    room, wanted = Rooms(world.state)["e"], stagings(world.state)["m"]
    assert [v.version for v in stage(wanted, room, "m", ())] == [2]
    assert stage(wanted, room, "m", {2}) == ()
