"""What clusters have, for people."""

from dataclasses import replace

from federation.contract.capacity import Calibration, Capacity, Device, Pool, Resources
from federation.contract.device_use import UseColumns
from federation.contract.types import AssignedVersion, ObservedVersion, VersionState
from federation.policy import views
from federation.policy.capacity_view import (
    capacity_age_s,
    capacity_sums,
    device_rows,
    gpu_products,
    only,
    pool_rows,
    version_load,
)
from federation.policy.events import AgentReported
from tests.federation.policy.world import World

GOOD = Device(id="b", vendor="nvidia", product="H100", memory_mib=80_000, node="n1")
SICK = replace(GOOD, id="a", healthy=False, reason="XID 79: it fell off the bus")
POOL = Pool(node="n1", resource="gpu", vendor="nvidia", total=2, allocatable=1, free=1, physical=2)
CAPACITY = Capacity(devices=(GOOD, SICK), pools=(POOL,), age_s=3.0, waiting=4, reason="slow")
USE = UseColumns(memory_mib=(40_001,), utilization=(501,), power_w=(301,))


def world() -> World:
    world = World()
    world.cluster("c")
    report = replace(world.make_report("c"), capacity=CAPACITY, use=USE)
    assert world.do(AgentReported(report=report))
    return world


def test_sums() -> None:
    sums = capacity_sums(CAPACITY, USE)
    assert (sums.healthy, sums.unhealthy, sums.total, sums.allocatable) == (1, 1, 2, 1)
    assert (sums.free, sums.largest_block, sums.waiting) == (1, 1, 4)
    assert (sums.memory_mib, sums.memory_used_mib) == (80_000, 40_000)
    assert (sums.utilization, sums.power_w) == (0.5, 300)
    nothing = capacity_sums(Capacity(), UseColumns())
    assert (nothing.healthy, nothing.utilization, nothing.memory_used_mib) == (0, None, None)
    scheduled = capacity_sums(replace(CAPACITY, devices=()), UseColumns())
    assert (scheduled.healthy, scheduled.unhealthy) == (2, 0)


def test_the_document_tells_sums_age_and_why() -> None:
    seen = world()
    seen.now = seen.now.replace(second=5)
    status = views.document(seen.state, "Cluster", "c", seen.now)["status"]
    assert status["capacity"]["units"]["allocatable"] == 1
    assert (status["capacity"]["reason"], status["capacity"]["age_s"]) == ("slow", 8.0)
    assert (status["gpus"], status["gpu_products"]) == (1, {"H100": 1})
    (current,) = [c for c in status["conditions"] if c["type"] == "CapacityCurrent"]
    assert current["status"] == "True"


def test_a_stale_inventory_is_a_condition_with_its_age() -> None:
    seen = world()
    old = replace(CAPACITY, age_s=75.0, reason="the API server does not answer")
    report = replace(seen.make_report("c"), capacity=old)
    assert seen.do(AgentReported(report=report))
    status = views.document(seen.state, "Cluster", "c", seen.now)["status"]
    (current,) = [c for c in status["conditions"] if c["type"] == "CapacityCurrent"]
    assert (current["status"], current["reason"]) == ("False", "CapacityStale")
    assert "the API server does not answer" in current["message"]
    assert "75 s ago" in current["message"]
    assert status["ready"]  # what it serves goes on


def test_after_a_restart_there_is_no_age_and_no_use() -> None:
    seen = world()
    seen.restart()
    record = seen.state.clusters["c"]
    assert capacity_age_s(seen.state, record, seen.now) is None
    assert [row["utilization"] for row in device_rows(seen.state)] == [None, None]


def test_devices_and_pools_are_rows() -> None:
    seen = world()
    rows = list(device_rows(seen.state))
    assert [(row["id"], row["healthy"], row["utilization"]) for row in rows] == [
        ("a", False, None),
        ("b", True, 0.5),
    ]
    assert rows[0]["reason"] == "XID 79: it fell off the bus"
    (pool,) = pool_rows(seen.state)
    assert (pool["cluster"], pool["free"], pool["sharing"]) == ("c", 1, "none")
    assert only(rows, {"cluster": "c", "id": "b"}) == [rows[1]]
    assert only(rows, {"cluster": "x"}) == []


def test_products_are_those_of_devices_or_else_of_pools() -> None:
    assert gpu_products(CAPACITY) == {"H100": 1}
    pools = (replace(POOL, product="A"), replace(POOL, product="", resource="x/gpu", allocatable=3))
    assert gpu_products(Capacity(pools=pools)) == {"A": 1, "x/gpu": 3}


def test_what_a_version_does_and_can_do() -> None:
    seen = ObservedVersion(
        model="m", version=1, digest="d", state=VersionState.WARMED, rate=1.234, latency_ms=5.678
    )
    assert version_load(seen)["calibration"] is None
    assert (version_load(seen)["rate"], version_load(seen)["latency_ms"]) == (1.23, 5.68)
    measured = Calibration(per_second=99.123, latency_ms=3.0, concurrency=8)
    assert version_load(replace(seen, calibration=measured))["calibration"] == {
        "per_second": 99.12,
        "latency_ms": 3.0,
        "concurrency": 8,
        "unit": "inferences",
    }


def test_on_plain_servers_what_models_hold_is_not_free() -> None:
    seen = world()
    record = seen.state.clusters["c"]
    held = AssignedVersion(model="m", version=1, digest="d", needs=Resources(gpus=1))
    assignment = replace(record.assignment, versions=(held,))
    seen.state.clusters["c"] = replace(record, assignment=assignment)
    (pool,) = pool_rows(seen.state)
    assert (pool["free"], pool["ours"], pool["allocatable"]) == (0, 1, 1)
    scheduled = replace(POOL, resource="nvidia.com/gpu")
    report = replace(seen.make_report("c"), capacity=Capacity(pools=(scheduled,)))
    assert seen.do(AgentReported(report=report))
    (pool,) = pool_rows(seen.state)
    assert (pool["free"], pool["ours"]) == (1, 0)  # its scheduler counts
