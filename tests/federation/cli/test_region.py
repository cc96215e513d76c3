import json

import pytest

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane


def test_create_is_idempotent_and_never_moves(fed: Fed, plane: FakeControlPlane) -> None:
    words = ("region", "create", "eu-west", "--location")
    assert fed(*words, "53.3,-6.3").out == "region/eu-west created\n"
    assert plane.objects["regions"]["eu-west"]["spec"] == {
        "location": {"latitude": 53.3, "longitude": -6.3},
        "time_zone": "UTC",
        "freeze": [],
    }
    assert fed(*words, "53.3, -6.3").out == "region/eu-west unchanged\n"
    moved = fed(*words, "1,1")
    assert moved.code == 5
    assert "fed apply" in moved.err
    assert plane.objects["regions"]["eu-west"]["metadata"]["generation"] == 1


@pytest.mark.parametrize("place", ["north", "1", "1,2,3", "91,0", "0,181", "nan,0"])
def test_a_place_must_be_on_earth(fed: Fed, place: str) -> None:
    result = fed("region", "create", "x", "--location", place)
    assert result.code == 2
    assert place in result.err


def test_a_bad_name_is_refused_before_anything_is_sent(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("region", "create", "EU_West", "--location", "1,1").code == 1
    assert plane.requests == []


def test_list_is_get(fed: Fed) -> None:
    fed("region", "create", "eu-west", "--location", "53.3,-6.3")
    assert json.loads(fed("region", "list", "-o", "json").out)["kind"] == "RegionList"


def test_a_dry_run_creates_nothing(fed: Fed, plane: FakeControlPlane) -> None:
    words = ("region", "create", "eu-west", "--location", "1,1", "--dry-run=server")
    assert fed(*words).out == "region/eu-west created (server dry run)\n"
    assert plane.objects["regions"] == {}
