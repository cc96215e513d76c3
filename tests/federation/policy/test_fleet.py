import math
from dataclasses import replace

import pytest

from federation.contract.errors import AlreadyExists, Conflict, Invalid, NotFound
from federation.contract.resources import ClusterSpec, DeploymentSpec, RegionSpec
from federation.contract.sync import Day, SyncSpec, SyncWindow
from federation.contract.types import Location, Scheduling
from federation.policy.events import (
    CloseAgent,
    ClusterApplied,
    ClusterSchedulingChanged,
    ObjectRemoved,
    RegionApplied,
)
from tests.federation.policy.world import ACTOR, World


def test_a_region_is_created_then_changed_then_left_alone() -> None:
    world = World()
    assert world.region("eu").created
    assert not world.region("eu", latitude=50.1).created
    record = world.state.regions["eu"]
    assert record.meta.generation == 2
    revision = world.state.revision
    world.region("eu", latitude=50.1)
    assert world.state.revision == revision


@pytest.mark.parametrize(("latitude", "longitude"), [(91, 0), (0, -181), (math.nan, 0)])
def test_a_region_must_be_on_earth(latitude: float, longitude: float) -> None:
    with pytest.raises(Invalid, match="no place on Earth"):
        World().region("moon", latitude, longitude)


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(Invalid, match="'EU' cannot name a region"):
        World().region("EU")


def test_a_cluster_in_an_unknown_region_names_the_near_miss_and_the_remedy() -> None:
    world = World()
    world.region("eu-west")
    with pytest.raises(NotFound) as refusal:
        world.register("c", ClusterSpec(region="eu-wst"))
    assert refusal.value.message == "region 'eu-wst' is unknown."
    assert "Did you mean 'eu-west'?" in refusal.value.hint
    assert "fed region create eu-wst" in refusal.value.hint


def test_a_taken_name_names_rejoin() -> None:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu"))
    with pytest.raises(AlreadyExists) as refusal:
        world.register("c", ClusterSpec(region="eu"))
    assert "fed cluster register c --rejoin" in refusal.value.hint


def test_rejoin_keeps_the_spec_unless_a_new_one_is_given() -> None:
    world = World()
    world.cluster("c", spec=ClusterSpec(region="eu", allow_code=True))
    world.register("c", ClusterSpec(region=""), token="second", rejoin=True)
    assert world.state.clusters["c"].spec.allow_code
    world.register("c", ClusterSpec(region="eu"), token="third", rejoin=True)
    assert not world.state.clusters["c"].spec.allow_code


def test_rejoin_of_an_unknown_cluster_names_near_misses() -> None:
    world = World()
    world.cluster("eu-west-1")
    with pytest.raises(NotFound, match="'eu-west-2' is unknown") as refusal:
        world.register("eu-west-2", ClusterSpec(region=""), rejoin=True)
    assert "Did you mean 'eu-west-1'?" in refusal.value.hint


def test_a_stale_resource_version_is_a_conflict_that_names_both() -> None:
    world = World()
    world.cluster("c")
    read = world.state.clusters["c"].meta.resource_version
    changed = ClusterSpec(region="eu", labels={"tier": "a"})
    world.do(ClusterApplied(actor=ACTOR, name="c", spec=changed, expected=read))
    now = world.state.clusters["c"].meta.resource_version
    assert now != read
    with pytest.raises(Conflict, match=f"version {read}, it is now at {now}"):
        world.do(ClusterApplied(actor=ACTOR, name="c", spec=changed, expected=read))


def test_expecting_a_new_object_refuses_an_old_one_and_the_other_way_round() -> None:
    world = World()
    world.region("eu")
    spec = RegionSpec(location=Location(latitude=1, longitude=1))
    with pytest.raises(Conflict, match="exists already"):
        world.do(RegionApplied(actor=ACTOR, name="eu", spec=spec, expected=0))
    with pytest.raises(Conflict, match="does not exist"):
        world.do(RegionApplied(actor=ACTOR, name="us", spec=spec, expected=7))


def test_a_changed_cluster_tells_what_changed() -> None:
    world = World()
    world.cluster("c")
    world.do(ClusterApplied(actor=ACTOR, name="c", spec=ClusterSpec(region="eu")))
    told = list(world.state.audit.values())[-1]
    assert told.message == "cluster 'c' was changed: allow_code True → False."
    with pytest.raises(NotFound):
        world.do(ClusterApplied(actor=ACTOR, name="x", spec=ClusterSpec(region="eu")))


def test_a_region_in_use_cannot_be_deleted() -> None:
    world = World()
    world.cluster("c", "eu")
    world.region("us")
    with pytest.raises(Conflict, match="used by clusters c"):
        world.remove("Region", "eu")
    world.push("m")
    world.deploy(DeploymentSpec(model="m", regions=("us",)))
    with pytest.raises(Conflict, match="used by deployments d"):
        world.remove("Region", "us")
    world.remove("Deployment", "d")
    world.remove("Region", "us")
    assert "us" not in world.state.regions


def test_scheduling_changes_once_and_rejects_the_unknown() -> None:
    world = World()
    world.cluster("c")
    world.schedule("c", Scheduling.CORDONED)
    revision = world.state.revision
    world.schedule("c", Scheduling.CORDONED)
    assert world.state.revision == revision
    world.schedule("c", Scheduling.DRAINING)
    world.schedule("c", Scheduling.ACTIVE)
    assert world.told()[-3:] == ["ClusterCordoned", "ClusterDraining", "ClusterActive"]
    unknown = ClusterSchedulingChanged(actor=ACTOR, name="c", scheduling=Scheduling.UNKNOWN)
    with pytest.raises(Invalid):
        world.do(unknown)


def test_a_removed_cluster_is_gone_and_its_stream_ends() -> None:
    world = World()
    world.cluster("c")
    epoch = world.state.clusters["c"].epoch
    world.remove("Cluster", "c")
    assert world.state.clusters == {}
    assert world.state.presences == {}
    assert [c.epoch for c in world.commands if isinstance(c, CloseAgent)][-1] == epoch
    assert world.snapshot().endpoints == ()


def test_a_cluster_registered_again_never_meets_numbers_of_its_predecessor() -> None:
    world = World()
    world.cluster("c")
    for _ in range(5):
        world.connect("c")
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    old = world.state.clusters["c"]
    world.remove("Cluster", "c")
    world.register("c", ClusterSpec(region="eu"))
    new = world.state.clusters["c"]
    assert new.epoch >= old.epoch
    assert new.assignment.generation > old.assignment.generation


def test_deleting_what_is_not_there_names_near_misses() -> None:
    world = World()
    world.region("eu-west")
    with pytest.raises(NotFound, match="'eu-wst'"):
        world.remove("Region", "eu-wst")
    with pytest.raises(Invalid, match="not a kind that can be deleted"):
        world.do(ObjectRemoved(actor=ACTOR, kind="Event", name="1"))


def test_how_a_cluster_fetches_is_checked_kept_and_told() -> None:
    world = World()
    world.cluster("c")
    held = world.state.clusters["c"].spec
    night = SyncWindow(start="22:00", end="06:00", days=(Day.MON,))
    sync = SyncSpec(max_mbytes_per_second=20, windows=(night,), time_zone="Europe/Dublin")
    world.do(ClusterApplied(actor=ACTOR, name="c", spec=replace(held, sync=sync)))
    assert world.state.clusters["c"].spec.sync == sync
    told = list(world.state.audit.values())[-1]
    assert told.message == (
        "cluster 'c' was changed: sync.max_mbytes_per_second 0.0 → 20, "
        "sync.windows always → mon 22:00-06:00, sync.time_zone UTC → Europe/Dublin."
    )
    for wrong in (
        SyncSpec(max_mbytes_per_second=-1),
        SyncSpec(disk_budget_gib=math.nan),
        SyncSpec(windows=(SyncWindow(start="24:00", end="06:00"),)),
    ):
        with pytest.raises(Invalid):
            world.do(ClusterApplied(actor=ACTOR, name="c", spec=replace(held, sync=wrong)))
        with pytest.raises(Invalid):
            world.register("new", replace(held, sync=wrong))
        with pytest.raises(Invalid):
            world.register("c", replace(held, sync=wrong), rejoin=True)
