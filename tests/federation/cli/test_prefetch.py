import pytest

from federation.cli.documents import Json
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

READY: Json = {"ready": True, "ready_at": 2, "wanted": 2, "clusters": [], "cannot": []}


@pytest.fixture(autouse=True)
def model(plane: FakeControlPlane) -> None:
    plane.put("models", "Llama_3.1", {"aliases": {"champion": 2}})


def spec(plane: FakeControlPlane, name: str = "llama-3-1-2") -> Json:
    found: Json = plane.objects["prefetches"][name]["spec"]
    return found


def test_the_reference_and_the_flags_make_a_prefetch(fed: Fed, plane: FakeControlPlane) -> None:
    result = fed("prefetch", "Llama_3.1@2", "--regions", "eu,us", "--label", "tier=gold")
    assert (result.code, result.out) == (0, "prefetch/llama-3-1-2 created\n")
    assert spec(plane) == {
        "model": "Llama_3.1",
        "version": 2,
        "regions": ["eu", "us"],
        "cluster_labels": {"tier": "gold"},
    }
    words = ("prefetch", "Llama_3.1@2", "--regions", "eu,us", "--label", "tier=gold")
    assert fed(*words).out == "prefetch/llama-3-1-2 unchanged\n"


def test_an_alias_is_looked_up_now(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("prefetch", "Llama_3.1@champion", "--name", "p").out == "prefetch/p created\n"
    assert spec(plane, "p")["version"] == 2
    missing = fed("prefetch", "Llama_3.1@champoin")
    assert missing.code == 3
    assert "has no alias 'champoin'" in missing.err
    assert "'champion'" in missing.err
    assert fed("prefetch", "Llama_3.1").code == 2
    assert fed("prefetch", "Llama_3.1@").code == 2


def test_regions_are_taken_away_one_by_one(fed: Fed, plane: FakeControlPlane) -> None:
    fed("prefetch", "Llama_3.1@2", "--regions", "eu,us,ap")
    assert fed("prefetch", "Llama_3.1@2", "--regions", "us", "--remove").code == 0
    assert spec(plane)["regions"] == ["eu", "ap"]
    gone = fed("prefetch", "Llama_3.1@2", "--regions", "ap,eu", "--remove", "--yes")
    assert gone.out == "prefetch/llama-3-1-2 deleted\n"
    assert plane.objects["prefetches"] == {}
    assert fed("prefetch", "Llama_3.1@2", "--remove", "--yes").code == 3
    assert fed("prefetch", "Llama_3.1@2", "--regions", "eu", "--remove", "--yes").code == 3


def test_all_of_it_is_taken_away(fed: Fed, plane: FakeControlPlane) -> None:
    fed("prefetch", "Llama_3.1@2")
    refused = fed("prefetch", "Llama_3.1@2", "--regions", "eu", "--remove")
    assert refused.code == 2
    assert "is about all regions" in refused.err
    dry = fed("prefetch", "Llama_3.1@2", "--remove", "--dry-run=server")
    assert dry.out == "prefetch/llama-3-1-2 deleted (server dry run)\n"
    assert fed("prefetch", "Llama_3.1@2", "--remove").code == 0
    assert plane.objects["prefetches"] == {}


def test_waiting_tells_what_is_missing_and_when_it_is_there(
    fed: Fed, plane: FakeControlPlane
) -> None:
    lacking = {
        "ready": False,
        "clusters": [{"cluster": "a", "ready": False, "reason": "", "state": "pending"}],
        "cannot": [{"cluster": "b", "reason": "it is cordoned: it gets nothing new"}],
    }
    plane.statuses = lambda _plural, _name: lacking
    result = fed("prefetch", "Llama_3.1@2", "--wait", "--timeout", "10ms")
    assert result.code == 7
    assert "not at b: it is cordoned" in result.err
    assert "b: it is cordoned: it gets nothing new; a: is pending" in result.err
    plane.statuses = lambda _plural, _name: READY
    result = fed("prefetch", "Llama_3.1@2", "--name", "q", "--wait")
    assert "prefetch/q is ready: Llama_3.1 version 2 lies at 2 clusters" in result.err


def test_it_is_listed(fed: Fed, plane: FakeControlPlane) -> None:
    plane.statuses = lambda _plural, _name: READY | {"size": 5_000_000}
    fed("prefetch", "Llama_3.1@2", "--regions", "eu")
    head, line = fed("get", "prefetches").out.splitlines()
    assert head.split() == [
        *("NAME", "MODEL", "VERSION", "REGIONS", "AT", "READY", "SIZE", "AGE", "REASON")
    ]
    assert line.split()[:6] == ["llama-3-1-2", "Llama_3.1", "2", "eu", "2/2", "True"]
    assert fed("get", "pf", "-o", "name").out == "prefetch/llama-3-1-2\n"
