from dataclasses import replace

import pytest

from federation.contract.capacity import Pool, Resources
from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.sync import Disk
from federation.contract.types import AssignedVersion, Urgency
from federation.policy.cluster_view import cluster_status
from federation.policy.packing import Packing
from federation.policy.rooms import Room, Rooms, price_of
from tests.federation.policy.world import World

GIB = 1 << 30
ONE = Resources(gpus=1)


@pytest.fixture
def world() -> World:
    world = World()
    world.cluster("c", gpus=4)
    for model in ("m", "n"):
        world.push(model, size=2 * GIB)
    world.deploy(DeploymentSpec(model="m", resources=ONE, replicas=2))
    return world


def version(model: str = "n", replicas: int = 1, needs: Resources = ONE) -> AssignedVersion:
    return AssignedVersion(model=model, version=1, digest="d", replicas=replicas, needs=needs)


def room(world: World) -> Room:
    return Rooms(world.state)["c"]


def test_all_models_of_a_cluster_share_its_gpus(world: World) -> None:
    here = room(world)
    assert here.takes(version(replicas=2))
    assert not here.takes(version(replicas=3))
    assert here.lacks(version(replicas=3)) == (
        "needs 3 times 1 GPU and has room for 2 (m 1 holds 2)"
    )
    here.give("n", (version(replicas=2),))
    assert not here.takes(replace(version(), model="o"))
    here.give("m", ())
    assert here.takes(replace(version(replicas=2), model="o"))
    assert here.lacks(version(needs=Resources())) == ""


def test_on_kubernetes_a_share_of_a_gpu_is_a_whole_one(world: World) -> None:
    half = version(replicas=3, needs=Resources(gpus=1, fraction=0.5))
    assert room(world).takes(half)
    record = world.state.clusters["c"]
    pool = Pool(node="n", resource="nvidia.com/gpu", vendor="nvidia", free=2, total=4)
    assert record.last is not None
    capacity = replace(record.last.capacity, pools=(replace(pool, allocatable=4, ours=2),))
    world.state.clusters["c"] = replace(record, last=replace(record.last, capacity=capacity))
    here = room(world)
    assert here.whole_units
    assert not here.takes(half)
    assert here.takes(replace(half, replicas=2))
    assert "needs 3 times 1 GPU" in here.lacks(half)


def test_what_is_given_counts_at_once_and_after_it_was_written(world: World) -> None:
    rooms = Rooms(world.state)
    assert rooms.holders("m") == {"c"}
    rooms.give("c", "n", (version(),))
    here = rooms["c"]
    assert (here.count, here.serves("n"), [v.model for v in here.versions()]) == (
        2,
        True,
        ["m", "n"],
    )
    record = here.record
    versions = (*record.assignment.versions, version())
    assignment = replace(record.assignment, versions=versions)
    world.state.clusters["c"] = replace(record, assignment=assignment)
    rooms.renew("c")
    assert (rooms["c"].count, rooms["c"].serves("n")) == (2, True)
    assert rooms.models() == {"m", "n"}
    assert rooms.holders("n") == {"c"}


def test_what_lies_ready_takes_disk_and_no_gpu(world: World) -> None:
    here = room(world)
    here.give(
        "n",
        (replace(version(), stage_only=True, urgency=Urgency.PREFETCH, needs=Resources(gpus=4)),),
    )
    assert here.takes(replace(version(replicas=2), model="o"))
    assert not here.serves("n")


def test_disk_is_summed_over_all_models(world: World) -> None:
    world.disks["c"] = Disk(free_bytes=3 * GIB)
    world.report("c")
    wanted = world.state.models["n"].versions[0]
    assert room(world).lacks_disk(wanted, "n") == (
        "version 1 needs 2 GiB of disk besides 2 GiB of others and packages may take 3 GiB there"
    )
    assert room(world).lacks_disk(world.state.models["m"].versions[0], "m") == ""
    here = room(world)
    here.give("m", ())
    assert here.lacks_disk(wanted, "n") == ""


def test_less_room_than_before_is_told(world: World) -> None:
    assert room(world).overcommitted() == ""
    world.gpus["c"] = 1
    world.report("c")
    assert room(world).overcommitted() == "overcommitted: m 1 has no room for 1 times 1 GPU"
    assert world.assigned("c") == [("m", 1)]
    status = cluster_status(world.state, world.state.clusters["c"], world.now)
    (shown,) = (each for each in status["conditions"] if each["type"] == "RoomSuffices")
    assert (shown["status"], shown["reason"]) == ("False", "Overcommitted")
    assert shown["message"] == room(world).overcommitted()


def test_ranks_change_with_what_is_given(world: World) -> None:
    rooms = Rooms(world.state)
    assert rooms["c"].rank(ONE) == (-5, float("inf"), 1)
    rooms.give("c", "n", (version(),))
    assert rooms["c"].rank(Resources(gpus=1)) == (-2, float("inf"), 2)
    assert rooms["c"].rank(Resources()) == (0, float("inf"), 2)
    assert rooms["c"].refuses(ONE, 9) is False, "nobody asked yet"
    assert not rooms["c"].takes(replace(version(replicas=9), model="o"))
    assert rooms["c"].refuses(Resources(gpus=1), 9)


@pytest.mark.parametrize(
    ("label", "price"),
    [("2.5", 2.5), ("0", 0.0), ("-1", None), ("nan", None), ("inf", None), ("cheap", None)],
)
def test_a_price_is_a_number(label: str, price: float | None) -> None:
    assert price_of({"price-per-gpu-hour": label}) == price
    assert price_of({}) is None


def test_a_cluster_without_agent_or_scheduling_gets_nothing(world: World) -> None:
    world.register("new", ClusterSpec(region="eu"))
    assert Rooms(world.state)["new"].blocked == "its agent has not joined yet"
    assert Rooms(world.state)["new"].refuses(ONE, 1)
    assert isinstance(Rooms(world.state)["new"].packing, Packing)
