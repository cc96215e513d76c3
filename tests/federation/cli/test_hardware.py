"""The devices and pools of `fed describe cluster`."""

from federation.cli.documents import Json
from federation.cli.hardware import calibration, capacity_lines
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.test_top import CAPACITY, device


def pool(**changes: object) -> Json:
    row: Json = {
        "cluster": "a",
        "node": "n1",
        "resource": "nvidia.com/gpu",
        "product": "H100",
        "memory_mib": 81_920,
        "sharing": "none",
        "physical": 8,
        "total": 8,
        "allocatable": 7,
        "free": 2,
        "ours": 4,
        "reason": "1 is sick",
    }
    return row | changes


def test_devices_and_pools_are_tables_with_reasons(fed: Fed, plane: FakeControlPlane) -> None:
    plane.put("clusters", "a", {"region": "eu"}, {"ready": True, "capacity": CAPACITY})
    plane.rows["devices"] = [
        device("g1"),
        device("g2", healthy=False, reason="XID 79: fell off the bus\x1b[31m", utilization=None),
        device("g3", cluster="b"),
    ]
    plane.rows["pools"] = [pool()]
    lines = [line.split() for line in fed("describe", "cluster", "a").out.splitlines()]
    told = [" ".join(line) for line in lines]
    assert "n1 g1 H100 40.0/80 50% 61 300 ok -" in told
    assert "n1 g2 H100 40.0/80 - 61 300 sick XID 79: fell off the bus [31m" in told
    assert "n1 nvidia.com/gpu H100 80 none 8 8 7 2 4 1 is sick" in told
    assert not any("g3" in line for line in told)
    assert any(line.startswith("8 units, 7 allocatable, 2 free") for line in told)


def test_columns_of_which_nothing_is_known_are_not_shown(fed: Fed, plane: FakeControlPlane) -> None:
    plane.put("clusters", "a", {"region": "eu"}, {"ready": True})
    unknown = dict.fromkeys(("utilization", "temperature_c", "power_w", "memory_used_mib"))
    plane.rows["devices"] = [device("g1", node="", **unknown)]
    lines = [line.split() for line in fed("describe", "cluster", "a").out.splitlines()]
    assert ["ID", "PRODUCT", "MEMORY-GIB", "HEALTH"] in lines
    assert ["Pools:"] not in lines


def test_what_a_cluster_has_in_words() -> None:
    lines = list(capacity_lines({**CAPACITY, "reason": "slow\n driver"}))
    assert lines == [
        "8 units, 7 allocatable, 2 free (at most 2 on one node), 4 held by models",
        "3 units are waited for by workloads of the cluster",
        "1 GPUs are sick",
        "memory in GiB 40.0/80, computing 50%, power in W 300, seen 7 s ago",
        "slow  driver",
    ]


def test_a_calibration_in_words() -> None:
    told = {"per_second": 512.0, "latency_ms": 8.0, "concurrency": 16, "unit": "inferences"}
    assert calibration(told) == "512 inferences/s at 16 at once, 8ms"
    assert calibration(None) == ""
