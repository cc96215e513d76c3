"""`fed top`: the busiest first."""

import json

import pytest

from federation.cli import live
from federation.cli.documents import Json
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

CAPACITY: Json = {
    "units": {
        "total": 8,
        "allocatable": 7,
        "free": 2,
        "ours": 4,
        "largest_block": 2,
        "waiting": 3,
    },
    "unhealthy": 1,
    "memory_mib": 81_920,
    "memory_used_mib": 40_960,
    "utilization": 0.5,
    "power_w": 300,
    "age_s": 7.0,
    "reason": "",
}


def device(name: str, **changes: object) -> Json:
    row: Json = {
        "cluster": "a",
        "node": "n1",
        "id": name,
        "product": "H100",
        "memory_mib": 81_920,
        "memory_used_mib": 40_960,
        "utilization": 0.5,
        "temperature_c": 61.0,
        "power_w": 300.0,
        "healthy": True,
        "reason": "",
        "source": "nvml",
    }
    return row | changes


def version(model: str, rate: float, **changes: object) -> Json:
    row: Json = {
        "model": model,
        "version": 1,
        "state": "warmed",
        "replicas": 2,
        "in_flight": 3,
        "queued": 1,
        "rate": rate,
        "latency_ms": 10.0,
        "calibration": {
            "per_second": 100.0,
            "latency_ms": 8.0,
            "concurrency": 4,
            "unit": "inferences",
        },
    }
    return row | changes


@pytest.fixture(autouse=True)
def clusters(plane: FakeControlPlane) -> None:
    for name, share, rate in (("idle", 0.1, 1.0), ("busy", 0.9, 30.0), ("mute", None, 0.0)):
        status = {
            "ready": name != "mute",
            "reason": "" if name != "mute" else "no report for 12 s",
            "gpus": 7,
            "models": {"warm": 1, "assigned": 1},
            "capacity": {**CAPACITY, "utilization": share},
            "versions": [version("ocr", rate), version("llm", 0.0, calibration=None)],
        }
        plane.put("clusters", name, {"region": "eu"}, status)
    plane.rows["devices"] = [
        device("g1", utilization=0.2),
        device("g2", utilization=0.8),
        device("g3", cluster="b", utilization=None, healthy=False, reason="XID 79"),
    ]


def cells(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("   ") if cell.strip()] for line in text.splitlines()
    ]


def test_clusters_by_load(fed: Fed) -> None:
    head, *rows = cells(fed("top", "clusters").out)
    assert head[:6] == ["CLUSTER", "REGION", "READY", "GPUS", "FREE", "UTIL"]
    assert [row[0] for row in rows] == ["busy", "idle", "mute"]
    assert rows[0][4:] == ["2/7", "90%", "40.0/80", "1", "6", "2", "30", "-"]
    assert rows[2][-1] == "no report for 12 s"
    assert "POWER-W" in fed("top", "clusters", "-o", "wide").out


def test_gpus_by_load_and_of_one_cluster(fed: Fed) -> None:
    _, *rows = cells(fed("top", "gpus").out)
    assert [row[2] for row in rows] == ["g2", "g1", "g3"]
    assert rows[2][-2:] == ["sick", "XID 79"]
    assert len(cells(fed("top", "gpus", "--cluster", "b").out)) == 2
    assert len(cells(fed("top", "gpus", "--limit", "1").out)) == 2


def test_models_over_all_clusters(fed: Fed) -> None:
    items = json.loads(fed("top", "models", "-o", "json").out)["items"]
    assert [item["model"] for item in items] == ["ocr", "llm"]
    ocr, llm = items
    assert (ocr["clusters"], ocr["replicas"], ocr["rate"], ocr["latency_ms"]) == (3, 6, 31.0, 10.0)
    assert (ocr["capable_per_second"], ocr["load"]) == (300.0, 0.103)
    assert (llm["capable_per_second"], llm["load"]) == (None, None)
    _, first, _ = cells(fed("top", "models").out)
    assert first[-2:] == ["300 inferences/s", "10%"]
    _, alone, _ = cells(fed("top", "models", "--cluster", "busy").out)
    assert alone[2] == "1"


def test_the_load_of_text_is_what_is_in_flight(fed: Fed, plane: FakeControlPlane) -> None:
    measured = {"per_second": 900.0, "latency_ms": 80.0, "concurrency": 8, "unit": "tokens"}
    status = {"ready": True, "versions": [version("llm", 1.0, calibration=measured, in_flight=2)]}
    plane.put("clusters", "only", {"region": "eu"}, status)
    (row,) = json.loads(fed("top", "models", "--cluster", "only", "-o", "json").out)["items"]
    assert (row["capable_per_second"], row["unit"], row["load"]) == (900.0, "tokens", 0.25)


def test_it_follows(fed: Fed, plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    def pause() -> None:
        if plane.rows["devices"][0]["utilization"] == 0.3:
            raise KeyboardInterrupt
        plane.rows["devices"][0] = device("g1", utilization=0.3)

    monkeypatch.setattr(live, "_pause", pause)
    lines = [json.loads(line) for line in fed("top", "gpus", "-w", "-o", "json").out.splitlines()]
    assert [line["type"] for line in lines] == ["ADDED", "ADDED", "ADDED", "MODIFIED"]
    assert lines[-1]["object"]["utilization"] == 0.3


def test_what_cannot_be(fed: Fed, plane: FakeControlPlane) -> None:
    assert "cannot print YAML" in fed("top", "gpus", "-w", "-o", "yaml").err
    plane.rows["devices"] = []
    nothing = fed("top", "gpus")
    assert (nothing.code, nothing.out) == (0, "")
    assert "No gpus" in nothing.err
    assert fed("top", "nonsense").code == 2
