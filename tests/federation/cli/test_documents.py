import pytest

from federation.cli.documents import (
    body,
    in_order,
    live_spec,
    look,
    look_list,
    look_map,
    name_of,
    parse_wanted,
    plain,
    title,
)
from federation.contract.errors import Invalid
from federation.contract.resources import (
    KINDS,
    ClusterSpec,
    DeploymentSpec,
    Kind,
    RegionSpec,
    kind_of,
)
from federation.contract.types import Location

FLEET = """\
apiVersion: federation/v1
kind: Deployment
metadata: {name: filetype}
spec: {model: filetype, version: champion, regions: [eu-west]}
---
apiVersion: federation/v1
kind: Region
metadata:
  name: eu-west
spec:
  location: {latitude: 53.3, longitude: -6.3}
"""


def kind(word: str) -> Kind:
    found = kind_of(word)
    assert found
    return found


def test_documents_are_read_and_ordered_by_what_refers_to_what() -> None:
    region, deployment = in_order(parse_wanted(FLEET, source="fleet.yaml"))
    assert region.title == "region/eu-west"
    assert region.spec == RegionSpec(location=Location(latitude=53.3, longitude=-6.3))
    assert deployment.spec == DeploymentSpec(
        model="filetype", version="champion", regions=("eu-west",)
    )
    assert region.source == "fleet.yaml line 6"


BAD = [
    ("spec: {model: filetype", "spec: {modle: filetype", "line 4: unknown key 'modle'", "'model'"),
    ("metadata: {name", "metdata: {name", "line 1: metadata is missing", ""),
    ("  name: eu-west\n", "  labels: {}\n", "line 8: metadata.name is missing", ""),
    ("federation/v1\nkind: Dep", "federation/v9\nkind: Dep", "line 1: unknown apiVersion", "v1"),
    ("kind: Region", "kind: Regiom", "line 7: unknown kind 'Regiom'", "'Region'"),
    ("kind: Region", "kind: region", "line 7: unknown kind 'region'", "'Region'"),
    ("kind: Region", "kind: Event", "a Event is made by the system", ""),
    ("kind: Region\n", "", "line 6: kind is missing", "Write kind"),
    ("53.3", "north", "line 11: spec.location.latitude", ""),
    ("latitude: 53.3, ", "", "spec.location", ""),
    ("regions: [eu-west]", "regions: eu-west", "spec.regions", ""),
    ("spec: {model", "spec: [model", "line 4: not valid YAML", ""),
    ("kind: Region", "kind: Region\nkind: Region", "key 'kind' twice", ""),
]


@pytest.mark.parametrize(("old", "new", "told", "hint"), BAD)
def test_a_mistake_is_told_with_its_line(old: str, new: str, told: str, hint: str) -> None:
    assert old in FLEET
    with pytest.raises(Invalid) as refused:
        parse_wanted(FLEET.replace(old, new), source="fleet.yaml")
    assert told in refused.value.message
    assert refused.value.message.startswith("fleet.yaml line")
    assert hint in refused.value.hint


def test_an_empty_file_and_two_of_a_name_are_refused() -> None:
    with pytest.raises(Invalid, match="no document"):
        parse_wanted("# nothing\n---\n", source="x")
    with pytest.raises(Invalid, match="deployment/filetype is there twice, first at a line 1"):
        in_order(parse_wanted(FLEET, source="a") + parse_wanted(FLEET, source="b"))


def test_what_was_read_back_can_be_applied() -> None:
    text = FLEET.replace(
        "name: eu-west\n", "name: eu-west\n  generation: 3\n  resourceVersion: 7\n"
    )
    region = in_order(parse_wanted(text + "status: {a: 1}\n", source="x"))[0]
    assert region.resource_version == 7
    assert body(region.kind, region.name, region.spec, region.resource_version) == {
        "apiVersion": "federation/v1",
        "kind": "Region",
        "metadata": {"name": "eu-west", "resourceVersion": 7},
        "spec": {
            "location": {"latitude": 53.3, "longitude": -6.3},
            "time_zone": "UTC",
            "freeze": (),
        },
    }


def test_a_live_spec_has_its_defaults_and_ignores_newer_keys() -> None:
    document = {"metadata": {"name": "x"}, "spec": {"region": "eu", "newer": 1}}
    assert live_spec(kind("cl"), document) == ClusterSpec(region="eu")
    assert plain(ClusterSpec(region="eu"))["allow_code"] is False
    with pytest.raises(Invalid, match="cannot read the Cluster 'x'"):
        live_spec(kind("cl"), {"metadata": {"name": "x"}, "spec": {"region": 7}})
    with pytest.raises(Invalid, match="has no spec"):
        live_spec(kind("ev"), {})


def test_looking_into_documents_never_fails() -> None:
    document = {"a": {"b": [1]}, "c": None, "metadata": {"name": "n"}}
    assert look(document, "a", "b") == [1]
    assert look(document, "a", "b", "c") is None
    assert look(document, "c", "d") is None
    assert look_map(document, "a", "b") == {}
    assert look_list(document, "a") == []
    assert name_of(document) == "n"
    assert name_of({}) == ""
    assert [title(k, "x") for k in KINDS][:2] == ["region/x", "cluster/x"]
