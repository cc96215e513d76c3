from datetime import UTC, datetime

from federation.cli.describe import sections
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

STATUS = {
    "ready": False,
    "reason": "no report for 42s",
    "engine": {"kind": "triton", "ready": True, "version": ""},
    "gpu_products": {"L40S": 2},
    "versions": [{"model": "m", "version": 2, "state": "warmed", "reason": "", "in_flight": 1}],
    "conditions": [
        {"type": "Ready", "status": "False", "reason": "LeaseExpired", "message": "no\x1breport"}
    ],
    "rtt_ms": {},
}


def test_a_cluster_is_told_in_sections(fed: Fed, plane: FakeControlPlane) -> None:
    plane.put("clusters", "eu-west", {"region": "eu", "labels": {"tier": "gold"}}, STATUS)
    plane.put("clusters", "us-east", {"region": "us"})
    for number in range(12):
        about = {"kind": "Cluster", "name": "eu-west", "reason": f"Thing{number}", "message": "m"}
        plane.put("events", str(number), {}, {"at": "2026-01-01T00:00:00Z", **about})
    plane.put("events", "other", {}, {"kind": "Cluster", "name": "us-east", "reason": "Else"})
    result = fed("describe", "cluster", "eu-west")
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert result.code == 0
    for expected in (
        "Name: eu-west",
        "Kind: Cluster",
        "Generation: 1",
        "Region: eu",
        "tier: gold",
        "Ready: no",
        "Reason: no report for 42s",
        "Kind: triton",
        "Rtt ms: -",
        "VERSION MODEL STATE IN-FLIGHT REASON",
        "2 m warmed 1 -",
        "TYPE STATUS REASON MESSAGE",
        "Ready False LeaseExpired no report",
    ):
        assert expected in lines
    assert "Thing11" in result.out
    assert "Thing1 " not in result.out
    assert "Else" not in result.out


def test_a_deployment_shows_its_versions_per_cluster() -> None:
    load = {"replicas": 2, "given": 3, "max_replicas": 0, "busy": 0.456}
    clusters = [
        {"cluster": "eu", "region": "e", "versions": [{"version": 2, "state": "warmed"} | load]},
        {"cluster": "us", "region": "u", "versions": []},
    ]
    document = {"metadata": {"name": "d"}, "kind": "Deployment", "status": {"clusters": clusters}}
    lines = [line.split() for line in sections(document, [], datetime(2026, 1, 1, tzinfo=UTC))]
    assert ["CLUSTER", "REGION", "VERSION", "STATE", "REPLICAS", "BUSY", "REASON"] in lines
    assert ["eu", "e", "2", "warmed", "2", "of", "3", "46%", "-"] in lines
    assert ["us", "u", "-", "-", "-", "-", "-"] in lines
    assert ["Events:", "none"] in lines
    region = {"metadata": {"name": "r"}, "status": {"clusters": ["eu", "us"]}}
    shown = list(sections(region, [], datetime(2026, 1, 1, tzinfo=UTC)))
    assert "  Clusters:             eu,us" in shown


def test_what_cannot_be_described(fed: Fed) -> None:
    assert fed("describe", "cluster", "x").code == 3
    assert fed("describe", "cluster").code == 2
    refused = fed("describe", "events", "7")
    assert refused.code == 1
    assert "fed events" in refused.err
