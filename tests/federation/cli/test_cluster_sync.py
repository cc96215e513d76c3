import json

import pytest

from federation.cli.documents import Json
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane


@pytest.fixture(autouse=True)
def cluster(plane: FakeControlPlane) -> None:
    plane.put("clusters", "edge", {"region": "eu", "labels": {"a": "b"}, "allow_code": True})


def held(plane: FakeControlPlane) -> Json:
    found: Json = plane.objects["clusters"]["edge"]["spec"]
    return found


def test_what_no_flag_names_stays_as_it_is(fed: Fed, plane: FakeControlPlane) -> None:
    result = fed(
        *("cluster", "sync", "edge", "--max-mbytes-per-second", "20"),
        *("--window", "mon-fri 22:00-06:00", "--window", "sat 00:00-00:00 50"),
        *("--time-zone", "Europe/Dublin"),
    )
    assert (result.code, result.out) == (0, "cluster/edge configured\n")
    assert fed("cluster", "sync", "edge", "--disk-budget-gib", "200").code == 0
    spec = held(plane)
    assert (spec["region"], spec["labels"], spec["allow_code"]) == ("eu", {"a": "b"}, True)
    assert spec["sync"] == {
        "max_mbytes_per_second": 20.0,
        "peer_max_mbytes_per_second": 0.0,
        "windows": [
            {
                "start": "22:00",
                "end": "06:00",
                "days": ["mon", "tue", "wed", "thu", "fri"],
                "max_mbytes_per_second": 0.0,
            },
            {"start": "00:00", "end": "00:00", "days": ["sat"], "max_mbytes_per_second": 50.0},
        ],
        "time_zone": "Europe/Dublin",
        "disk_budget_gib": 200.0,
        "rollback_waits": False,
    }
    assert fed("cluster", "sync", "edge", "--window", "").code == 0
    assert held(plane)["sync"]["windows"] == []


def test_without_flags_it_shows_what_holds(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("cluster", "sync", "edge").out.splitlines() == [
        "Wide area:          no cap",
        "In the region:      no cap",
        "Windows:            at any time",
        "Disk budget:        the disk",
        "Rollbacks:          never wait for a window",
    ]
    words = ("cluster", "sync", "edge", "--window", "22:00-06:00", "--rollback-waits")
    shown = fed(*words, "--peer-max-mbytes-per-second", "7.5", "-o", "json").out
    assert json.loads(shown)["peer_max_mbytes_per_second"] == 7.5
    lines = fed("cluster", "sync", "edge").out
    assert "Windows:            22:00-06:00 (UTC)" in lines
    assert "In the region:      7.5 MB/s" in lines
    assert "Rollbacks:          wait for a window" in lines
    before = len([m for m in plane.methods if m.startswith("PUT")])
    fed("cluster", "sync", "edge")
    assert len([m for m in plane.methods if m.startswith("PUT")]) == before


def test_what_makes_no_sense_is_refused_here(fed: Fed, plane: FakeControlPlane) -> None:
    for words in (
        ("--window", "at night"),
        ("--max-mbytes-per-second", "-1"),
        ("--max-mbytes-per-second", "nan"),
        ("--disk-budget-gib", "1e99"),
        ("--time-zone", "../UTC"),
    ):
        assert fed("cluster", "sync", "edge", *words).code != 0
    assert not [m for m in plane.methods if m.startswith("PUT")]
    assert fed("cluster", "sync", "nope").code == 3


def test_a_rejoin_keeps_the_settings(fed: Fed, plane: FakeControlPlane) -> None:
    plane.put("regions", "eu", {})
    fed("cluster", "sync", "edge", "--max-mbytes-per-second", "20")
    fed("cluster", "register", "edge", "--rejoin")
    assert held(plane)["sync"]["max_mbytes_per_second"] == 20


def test_a_dry_run_changes_nothing(fed: Fed, plane: FakeControlPlane) -> None:
    words = ("cluster", "sync", "edge", "--max-mbytes-per-second", "20", "--dry-run=server")
    assert "(server dry run)" in fed(*words).out
    assert "sync" not in held(plane)
