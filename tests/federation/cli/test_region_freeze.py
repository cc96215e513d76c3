import json

import pytest

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

WEEKEND = ("--window", "fri 16:00-00:00", "--window", "sat,sun 00:00-00:00")


@pytest.fixture(autouse=True)
def region(plane: FakeControlPlane) -> None:
    plane.put("regions", "eu", {"location": {"latitude": 1.0, "longitude": 2.0}})


def test_windows_are_set_shown_and_taken_away(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("region", "freeze", "eu").out == "Frozen:             never\n"
    done = fed("region", "freeze", "eu", *WEEKEND, "--time-zone", "Europe/Dublin")
    assert (done.code, done.out) == (0, "region/eu configured\n")
    spec = plane.objects["regions"]["eu"]["spec"]
    assert spec["time_zone"] == "Europe/Dublin"
    assert spec["freeze"][0] == {"start": "16:00", "end": "00:00", "days": ["fri"]}
    assert (
        "fri 16:00-00:00; sat,sun 00:00-00:00 (Europe/Dublin)" in fed("region", "freeze", "eu").out
    )
    assert "sat,sun 00:00-00:00" in fed("region", "list", "-o", "wide").out
    # Creating it once more leaves them alone.
    assert fed("region", "create", "eu", "--location", "1,2").out == "region/eu unchanged\n"
    told = json.loads(fed("region", "freeze", "eu", "--window", "", "-o", "json").out)
    assert told == {"time_zone": "Europe/Dublin", "freeze": []}


def test_mistakes_are_told_before_anything_is_sent(fed: Fed, plane: FakeControlPlane) -> None:
    wrong = fed("region", "freeze", "eu", "--window", "friday 16:00")
    assert wrong.code == 1
    assert "is not a window" in wrong.err
    assert plane.requests == []
    assert "is not a time zone" in fed("region", "freeze", "eu", "--time-zone", "x y").err
    assert fed("region", "freeze", "nowhere", *WEEKEND).code == 3


def test_a_dry_run_changes_nothing(fed: Fed, plane: FakeControlPlane) -> None:
    done = fed("region", "freeze", "eu", *WEEKEND, "--dry-run")
    assert done.out == "region/eu configured (server dry run)\n"
    assert "freeze" not in plane.objects["regions"]["eu"]["spec"]
