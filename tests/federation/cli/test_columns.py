from datetime import UTC, datetime

import pytest

from federation.cli.columns import COLUMNS, columns_of, row
from federation.cli.documents import Json
from federation.contract.resources import KINDS

NOW = datetime(2026, 1, 2, tzinfo=UTC)
META = {"name": "x", "createdAt": "2026-01-01T00:00:00Z"}


def cells(kind: str, document: Json, *, wide: bool = False) -> dict[str, str]:
    columns = columns_of(kind, wide=wide)
    return dict(zip([column.title for column in columns], row(columns, document, NOW), strict=True))


def test_every_kind_has_a_table_that_survives_an_empty_document() -> None:
    assert set(COLUMNS) == {kind.name for kind in KINDS}
    for kind in COLUMNS:
        for wide in (False, True):
            assert all(isinstance(cell, str) for cell in cells(kind, {}, wide=wide).values())
        assert len(columns_of(kind, wide=False)) <= len(columns_of(kind, wide=True))


def cluster(**status: object) -> Json:
    base = {
        "ready": True,
        "reason": "",
        "scheduling": "active",
        "engine": {"kind": "triton", "version": "2.5", "ready": True},
        "url": "http://e:7500",
        "gpus": 6,
        "gpu_products": {"L40S": 4, "A10G": 2},
        "models": {"warm": 1, "assigned": 2},
        "rtt_ms": {"router-us": 84.6, "router-eu": 11.2, "router-new": 0},
        "versions": [{"in_flight": 2}, {"in_flight": 3}],
        "last_report_s": 0.7,
    }
    return {"metadata": META, "spec": {"region": "eu-west"}, "status": base | status}


def test_a_healthy_cluster() -> None:
    assert cells("Cluster", cluster()) == {
        "NAME": "x",
        "REGION": "eu-west",
        "ENGINE": "triton",
        "READY": "True",
        "GPUS": "4xL40S,2xA10G",
        "MODELS": "1/2",
        "RTT": "11ms",
        "AGE": "24h",
        "REASON": "",
    }
    wide = cells("Cluster", cluster(), wide=True)
    assert wide["IN-FLIGHT"] == "5"
    assert wide["RTTS"] == "router-us=85ms,router-eu=11ms"
    assert wide["LAST-REPORT"] == "0s ago"


def test_an_unhealthy_cluster_ends_with_the_reason_in_words() -> None:
    lost = cluster(ready=False, reason="no report for 42s", gpu_products={}, gpus=0, rtt_ms={})
    shown = cells("Cluster", lost)
    assert (shown["READY"], shown["GPUS"], shown["RTT"]) == ("False", "0", "")
    assert shown["REASON"] == "no report for 42s"
    drained = cells("Cluster", cluster(scheduling="draining", ready=False, reason="x"))
    assert drained["REASON"] == "x; draining: receives no traffic and no new models"
    assert cells("Cluster", cluster(scheduling="cordoned"))["REASON"].startswith("cordoned")


def test_a_model() -> None:
    versions = [
        {"version": 1, "runtime": "onnx", "digest": "a" * 64, "size": 10},
        {"version": 2, "runtime": "python", "digest": "b" * 64, "size": 1_234_567},
    ]
    document = {
        "metadata": META,
        "spec": {"aliases": {"champion": 1}},
        "status": {"versions": versions, "latest": 2},
    }
    shown = cells("Model", document, wide=True)
    assert (shown["LATEST"], shown["VERSIONS"], shown["RUNTIME"]) == ("2", "1,2", "python")
    assert (shown["ALIASES"], shown["SIZE"]) == ("champion=1", "1.2 MB")
    assert shown["DIGEST"] == "b" * 12


def test_a_deployment_tells_what_it_waits_for() -> None:
    status = {
        "version": 2,
        "routed_version": 1,
        "ready": False,
        "warm": 1,
        "wanted": 3,
        "cannot": [{"cluster": "ap", "reason": "code is not allowed there"}],
        "clusters": [
            {"cluster": "eu", "versions": [{"version": 2, "state": "warmed"}]},
            {"cluster": "us", "versions": [{"version": 2, "state": "failed", "reason": "OOM"}]},
            {"cluster": "sa", "versions": [{"version": 2, "state": "pending", "reason": ""}]},
        ],
    }
    document = {"metadata": META, "spec": {"model": "m", "version": "champion"}, "status": status}
    shown = cells("Deployment", document)
    assert (shown["VERSION"], shown["REGIONS"], shown["WARM"]) == ("2 (champion)", "all", "1/3")
    assert shown["REASON"] == (
        "ap: code is not allowed there; us: version 2 is failed: OOM; sa: version 2 is pending"
    )
    ready = {**document, "status": {**status, "ready": True, "cannot": []}}
    assert cells("Deployment", ready)["REASON"] == ""


def test_a_deployment_that_sleeps_says_so() -> None:
    status = {
        "version": 1,
        "routed_version": 1,
        "ready": True,
        "reason": "it sleeps since 2026-01-01 00:00:00 UTC; the first request wakes it",
        "warm": 0,
        "wanted": 0,
        "cannot": [],
        "asleep_since": "2026-01-01T00:00:00Z",
        "clusters": [{"cluster": "eu", "versions": [{"version": 1, "state": "verified"}]}],
    }
    document = {"metadata": META, "spec": {"model": "m"}, "status": status}
    shown = cells("Deployment", document)
    assert (shown["WARM"], shown["READY"]) == ("asleep", "True")
    assert shown["REASON"] == status["reason"]


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, "3"),  # an older control plane
        ({"mode": "fixed", "min": 1, "max": 1}, "3"),
        ({"mode": "auto", "min": 2, "max": 8}, "2-8 (auto)"),
    ],
)
def test_replicas_are_a_number_or_limits(scaling: object, expected: str) -> None:
    document = {"kind": "Deployment", "spec": {"replicas": 3, "scaling": scaling}}
    (column,) = [c for c in COLUMNS["Deployment"] if c.title == "REPLICAS"]
    assert column.cell(document, NOW) == expected


def test_a_router_and_an_event() -> None:
    status = {
        "url": "http://r",
        "connected": True,
        "snapshot_version": (3 << 32) | 17,
        "rejection": "",
        "requests_total": 5,
        "clusters": {"eu": {"healthy": True}, "us": {"healthy": False, "reason": "timeouts"}},
        "location": {"latitude": 50.1, "longitude": 8.7},
    }
    shown = cells("Router", {"metadata": META, "status": status}, wide=True)
    assert (shown["SNAPSHOT"], shown["CLUSTERS"]) == ("3.17", "1/2")
    assert (shown["REASON"], shown["LOCATION"]) == ("us: timeouts", "50.1,8.7")
    open_to_all = {"metadata": META, "status": {"allow_anonymous": True}}
    assert cells("Router", open_to_all)["REASON"] == "serves requests without a key"
    event = {
        "metadata": {"name": "7"},
        "status": {"at": "2026-01-01T10:00:00+02:00", "kind": "Cluster", "name": "eu"},
    }
    assert cells("Event", event)["AT"] == "2026-01-01T08:00:00Z"
    assert cells("Event", event)["OBJECT"] == "cluster/eu"
