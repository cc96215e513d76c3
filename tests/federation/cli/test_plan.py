import json

import pytest

from federation.cli.plan import lines
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

DEPLOYMENT = """
apiVersion: federation/v1
kind: Deployment
metadata: {name: %s}
spec: {model: llama, clusters: 2}
"""
PLAN = {
    "place": [
        {
            "cluster": "eu-1",
            "region": "eu",
            "version": 7,
            "replicas": 2,
            "bytes": 4_000_000,
            "exact": True,
            "eta_s": 40.0,
            "assumes": "0.1 MB/s, its cap",
        },
        {
            "cluster": "us-1",
            "region": "us",
            "version": 7,
            "replicas": 2,
            "bytes": 9_000_000,
            "exact": False,
            "eta_s": None,
            "assumes": "nobody knows how fast it fetches",
        },
    ],
    "stop": [
        {
            "cluster": "eu-1",
            "region": "eu",
            "version": 6,
            "replicas": 2,
            "reason": "when version 7 is warm there",
        }
    ],
    "cannot": [{"cluster": "ap-1", "region": "ap", "reason": "needs 24 GiB"}],
    "others": ["small 1 gets a place at us-1"],
    "notes": ["3 clusters are asked for, 2 can"],
    "regions": [
        {"region": "eu", "clusters": 1, "bytes": 4_000_000, "from_origin_bytes": 0, "eta_s": 40.0},
        {"region": "us", "clusters": 1, "bytes": 9_000_000, "from_origin_bytes": 1, "eta_s": None},
    ],
}


def test_a_plan_is_told_bucket_by_bucket(fed: Fed, plane: FakeControlPlane) -> None:
    plane.plan = PLAN
    told = fed("plan", "-f", "-", stdin=DEPLOYMENT % "llama")
    assert told.code == 0, told.err
    rows = [[cell.strip() for cell in line.split("   ") if cell] for line in told.out.splitlines()]
    assert rows[0] == ["deployment/llama (new): model llama, version 1"]
    assert rows[2] == ["place", "eu-1", "eu", "7", "2", "4.0 MB", "0.1 MB/s, its cap"]
    assert rows[3][-2:] == ["up to 9.0 MB", "nobody knows how fast it fetches"]
    assert rows[4] == ["stop", "eu-1", "eu", "6", "2", "-", "when version 7 is warm there"]
    assert rows[5] == ["cannot", "ap-1", "ap", "-", "-", "-", "needs 24 GiB"]
    assert rows[8] == ["eu", "1", "4.0 MB", "0 B", "40s"]
    assert rows[9] == ["us", "1", "9.0 MB", "1 B", "unknown"]
    assert rows[10] == ["note: small 1 gets a place at us-1"]
    assert plane.methods == ["POST /api/v1/plan"]


def test_several_are_planned_one_by_one(fed: Fed, plane: FakeControlPlane) -> None:
    both = f"{DEPLOYMENT % 'a'}---{DEPLOYMENT % 'b'}"
    told = fed("plan", "-f", "-", stdin=both).out
    assert told.count("nothing changes, and no cluster serves it") == 2
    yaml = fed("plan", "-f", "-", "-o", "yaml", stdin=both).out
    assert yaml.count("deployment:") == 2
    assert "---" in yaml
    one = fed("plan", "-f", "-", "-o", "json", stdin=DEPLOYMENT % "a").out
    assert json.loads(one)["deployment"] == "a"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: Deployment", "apiVersion is missing"),
        (DEPLOYMENT.replace("Deployment", "Region") % "a", "unknown key 'model'"),
        (
            "apiVersion: federation/v1\nkind: Model\nmetadata: {name: m}\nspec: {}",
            "model/m is no deployment",
        ),
        (DEPLOYMENT.replace("clusters", "cluster") % "a", "clusters"),
        (DEPLOYMENT.replace("clusters: 2", "engine: tritn") % "a", "tritn"),
        ("", "no document"),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(
    fed: Fed, plane: FakeControlPlane, text: str, told: str
) -> None:
    refused = fed("plan", "-f", "-", stdin=text)
    assert refused.code != 0
    assert told in refused.err
    assert plane.requests == []


def test_what_a_newer_control_plane_leaves_out_is_no_trouble() -> None:
    assert list(lines({})) == [
        "deployment/ (changed): model , version ",
        "nothing changes, and no cluster serves it",
    ]
