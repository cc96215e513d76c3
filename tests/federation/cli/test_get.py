import json

import pytest
import yaml

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

PLACE = {"location": {"latitude": 53.3, "longitude": -6.3}}


@pytest.fixture(autouse=True)
def regions(plane: FakeControlPlane) -> None:
    plane.put("regions", "eu-west", PLACE)
    plane.put("regions", "us-east", PLACE)


def test_a_list_is_a_table(fed: Fed) -> None:
    result = fed("get", "regions")
    head, *lines = result.out.splitlines()
    assert head.split() == ["NAME", "LOCATION", "AGE"]
    assert [line.split()[:2] for line in lines] == [
        ["eu-west", "53.3,-6.3"],
        ["us-east", "53.3,-6.3"],
    ]
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out


@pytest.mark.parametrize("words", [["region", "eu-west"], ["reg/eu-west"], ["Region/eu-west"]])
def test_one_object(fed: Fed, words: list[str]) -> None:
    assert len(fed("get", *words).out.splitlines()) == 2
    shown = json.loads(fed("get", *words, "-o", "json").out)
    assert shown["spec"] == PLACE
    assert yaml.safe_load(fed("get", *words, "-o", "yaml").out) == shown
    assert fed("get", *words, "-o", "name").out == "region/eu-west\n"


def test_a_list_as_json_is_the_answer_of_the_api(fed: Fed) -> None:
    shown = json.loads(fed("get", "regions", "-o", "json").out)
    assert shown["kind"] == "RegionList"
    assert len(shown["items"]) == 2
    assert fed("get", "regions", "-o", "name").out == "region/eu-west\nregion/us-east\n"


def test_nothing_there_is_told_on_stderr(fed: Fed) -> None:
    result = fed("get", "clusters")
    assert (result.code, result.out, result.err) == (0, "", "There are no clusters yet.\n")
    assert fed("get", "clusters", "-o", "name").err == ""
    assert json.loads(fed("get", "clusters", "-o", "json").out)["items"] == []


def test_an_unknown_name_ends_with_3(fed: Fed) -> None:
    result = fed("get", "region", "eu-wst")
    assert (result.code, result.out) == (3, "")
    assert result.err == "error: region 'eu-wst' is unknown. There are none yet.\n"


def test_an_error_from_elsewhere_cannot_drive_the_terminal(fed: Fed) -> None:
    result = fed("get", "region", "a\x1b[2J")
    assert result.code == 3
    assert "\x1b" not in result.err


def test_without_credentials_it_ends_with_4(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FED_TOKEN_FILE")
    result = fed("get", "regions")
    assert result.code == 4
    assert "--token-file" in result.err


def test_yaml_cannot_be_watched(fed: Fed) -> None:
    result = fed("get", "regions", "-w", "-o", "yaml")
    assert result.code == 1
    assert "-o json" in result.err
