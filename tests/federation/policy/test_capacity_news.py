"""What of a capacity is news: stored at once, kept in memory, or nothing at all."""

from dataclasses import replace

from federation.contract.capacity import Capacity, Device, DeviceUse, Pool
from federation.contract.device_use import UseColumns
from federation.contract.resources import DeploymentSpec
from federation.contract.types import Report
from federation.policy.capacity_news import STALE_S, same_build
from federation.policy.events import AgentReported, Put, WakeAt
from federation.policy.standing import capacity_trouble
from tests.federation.policy.world import World

DEVICE = Device(id="a", vendor="nvidia", product="H100", memory_mib=80_000)
POOL = Pool(node="n", resource="gpu", vendor="nvidia", total=8, allocatable=8, free=3, ours=1)
CAPACITY = Capacity(devices=(DEVICE,), pools=(POOL,))


def reporting() -> World:
    world = World()
    world.cluster("c")
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    world.serve("c")
    told(world, CAPACITY)
    world.advance(2)
    return world


def told(world: World, capacity: Capacity, use: UseColumns | None = None) -> Report:
    report = replace(
        world.make_report("c", world.seen("c")), capacity=capacity, use=use or UseColumns()
    )
    world.commands.clear()
    assert world.do(AgentReported(report=report))
    return report


def stored(world: World) -> list[str]:
    return [c.kind for c in world.commands if isinstance(c, Put)]


def test_use_age_and_words_write_nothing() -> None:
    world = reporting()
    for capacity in (
        replace(CAPACITY, age_s=9.0),
        replace(CAPACITY, reason="a driver was slow"),
        replace(CAPACITY, waiting=4),
    ):
        told(world, capacity, UseColumns(memory_mib=(5,)))
        assert stored(world) == []
        assert world.state.settle_at is None


def test_devices_that_come_go_or_fall_ill_are_stored_at_once() -> None:
    for capacity in (
        replace(CAPACITY, devices=()),
        replace(CAPACITY, devices=(replace(DEVICE, healthy=False, reason="XID 79"),)),
        replace(CAPACITY, pools=(replace(POOL, allocatable=7),)),
        replace(CAPACITY, pools=()),
    ):
        world = reporting()
        told(world, capacity)
        assert "Cluster" in stored(world)
        last = world.state.clusters["c"].last
        assert last is not None
        assert (last.capacity.devices, last.capacity.pools) == (capacity.devices, capacity.pools)


def test_what_is_free_is_known_at_once_and_never_stored_for_itself() -> None:
    world = reporting()
    for free in (2, 0, 5):
        told(world, replace(CAPACITY, pools=(replace(POOL, free=free),)))
        assert stored(world) == []
        last = world.state.clusters["c"].last
        assert last is not None
        assert last.capacity.free == free


def test_changes_of_a_second_settle_the_fleet_once() -> None:
    world = reporting()
    told(world, replace(CAPACITY, pools=(replace(POOL, free=2),)))
    due = world.state.settle_at
    assert due is not None
    assert due in [c.at for c in world.commands if isinstance(c, WakeAt)]
    told(world, replace(CAPACITY, pools=(replace(POOL, free=4),)))
    assert world.state.settle_at == due
    world.advance(0.5)
    assert world.state.settle_at == due
    world.advance(0.6)
    assert world.state.settle_at is None


def test_a_clock_that_was_set_back_does_not_silence_us() -> None:
    world = reporting()
    told(world, replace(CAPACITY, pools=(replace(POOL, free=2),)))
    world.advance(-3600)
    assert world.state.settle_at is None


def test_an_old_inventory_is_noted_once_and_forgotten_when_it_is_renewed() -> None:
    world = reporting()
    old = replace(CAPACITY, age_s=STALE_S + 1, reason="the driver does not answer")
    told(world, old)
    assert "Cluster" in stored(world)
    trouble = capacity_trouble(world.state.clusters["c"])
    assert trouble == "its inventory was not renewed for more than 30 s: the driver does not answer"
    told(world, replace(old, age_s=500.0, reason="it still does not"))
    assert stored(world) == []
    assert capacity_trouble(world.state.clusters["c"]) == trouble
    told(world, CAPACITY)
    assert "Cluster" in stored(world)
    assert capacity_trouble(world.state.clusters["c"]) == ""


def test_a_restarted_control_plane_knows_what_was_stored() -> None:
    world = reporting()
    told(world, replace(CAPACITY, age_s=STALE_S + 1))
    world.restart()
    assert capacity_trouble(world.state.clusters["c"])
    last = world.state.clusters["c"].last
    assert last is not None
    assert last.capacity.pools == (POOL,)


def test_what_capacities_differ_in() -> None:
    assert same_build(CAPACITY, replace(CAPACITY, pools=(replace(POOL, free=0, reason="full"),)))
    assert not same_build(CAPACITY, replace(CAPACITY, pools=(POOL, POOL)))
    busy = replace(DEVICE, use=DeviceUse(memory_mib=1))
    assert not same_build(CAPACITY, replace(CAPACITY, devices=(busy,)))
