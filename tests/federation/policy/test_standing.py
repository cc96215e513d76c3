from dataclasses import replace

from federation.contract.resources import ClusterSpec, DeploymentSpec, PrefetchSpec
from federation.contract.sync import Disk
from federation.contract.types import Connectivity, Scheduling, VersionState
from federation.policy import standing
from tests.federation.policy.world import World


def test_from_registered_to_confirmed_and_back() -> None:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu"))
    assert not standing.is_present(world.state, "c")
    assert not standing.is_routable(world.state.clusters["c"])
    world.join("c")
    world.connect("c")
    assert standing.is_present(world.state, "c")
    assert not standing.is_confirmed(world.state, "c")
    world.engines["c"] = world.state.clusters["c"].last.engine  # type: ignore[union-attr]
    world.report("c")
    assert standing.is_confirmed(world.state, "c")
    world.advance(11)
    assert not standing.is_present(world.state, "c")
    assert not standing.is_confirmed(world.state, "c")
    assert standing.is_routable(world.state.clusters["c"])


def test_a_report_is_up_to_date_when_it_knows_the_newest_assignment() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    assert standing.is_up_to_date(world.state, world.state.clusters["c"])
    world.deploy(DeploymentSpec(model="m"))
    assert not standing.is_up_to_date(world.state, world.state.clusters["c"])
    world.report("c")
    assert standing.is_up_to_date(world.state, world.state.clusters["c"])
    world.connect("c")
    assert not standing.is_up_to_date(world.state, world.state.clusters["c"])


def test_warm_versions_are_those_assigned() -> None:
    world = World()
    world.cluster("c")
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    world.serve("c")
    record = world.state.clusters["c"]
    assert [v.version for v in standing.warm_versions(record, "m")] == [1]
    assert list(standing.warm_versions(record, "n")) == []
    world.remove("Deployment", "d")
    assert list(standing.warm_versions(world.state.clusters["c"])) == []


def test_a_draining_cluster_is_not_routable() -> None:
    world = World()
    world.cluster("c")
    world.schedule("c", Scheduling.DRAINING)
    assert not standing.is_routable(world.state.clusters["c"])


def test_a_cluster_that_is_no_member_any_more_is_not_routable() -> None:
    world = World()
    world.cluster("c")
    assert standing.is_routable(world.state.clusters["c"])
    world.revoke("c")
    assert not standing.is_routable(world.state.clusters["c"])


def test_a_reversed_cluster_is_routable_without_a_url() -> None:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu", connectivity=Connectivity.REVERSE))
    world.join("c")
    world.connect("c", connectivity=Connectivity.REVERSE)
    assert world.state.clusters["c"].last is not None
    assert standing.is_routable(world.state.clusters["c"])


def test_what_lies_ready_is_assigned_and_neither_served_nor_warm() -> None:
    world = World()
    world.cluster("c")
    world.push("m", "1")
    world.push("m", "2")
    world.deploy(DeploymentSpec(model="m", version=1))
    world.prefetch(PrefetchSpec(model="m", version=2))
    world.report("c", [replace(v, state=VersionState.WARMED) for v in world.seen("c")])
    record = world.state.clusters["c"]
    assert [v.version for v in standing.assigned_versions(record, "m")] == [1, 2]
    assert [v.version for v in standing.serving_versions(record, "m")] == [1]
    assert [v.version for v in standing.warm_versions(record)] == [1]


def test_bytes_count_by_content_and_not_by_number() -> None:
    world = World()
    world.cluster("c")
    world.push("m", "1")
    version = world.state.models["m"].versions[0]
    assert not standing.has_bytes(world.state.clusters["c"], version)
    world.deploy(DeploymentSpec(model="m"))
    for state in VersionState:
        world.report("c", world.seen("c", state))
        found = standing.has_bytes(world.state.clusters["c"], version)
        assert found is (state in standing.WITH_BYTES)
    world.report("c", [replace(v, digest="other") for v in world.seen("c")])
    assert not standing.has_bytes(world.state.clusters["c"], version)


def test_the_room_is_the_least_of_what_is_known() -> None:
    world = World()
    world.cluster("c")
    assert standing.room_bytes(world.state.clusters["c"]) is None
    world.report("c", disk=Disk(used_bytes=3, free_bytes=4))
    assert standing.room_bytes(world.state.clusters["c"]) == 7
    world.report("c", disk=Disk(used_bytes=3, free_bytes=4, budget_bytes=5))
    assert standing.room_bytes(world.state.clusters["c"]) == 5
