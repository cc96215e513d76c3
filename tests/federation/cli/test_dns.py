import json

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

CLUSTERS = {"a": {"rtt_ms": 3.0, "healthy": True, "reason": ""}}


def known(plane: FakeControlPlane) -> None:
    good = {"url": "https://192.0.2.1", "connected": True, "clusters": CLUSTERS}
    plane.put("routers", "eu", {}, good)
    plane.put("routers", "lost", {}, {**good, "connected": False})


def test_it_prints_a_zone_and_says_who_is_left_out(fed: Fed, plane: FakeControlPlane) -> None:
    known(plane)
    result = fed("dns", "export", "i.example.net", "--ttl", "30")
    assert result.code == 0
    assert "$TTL 30\n" in result.out
    assert "_inference._tcp.i IN SRV 0 100 443 eu.i\n" in result.out
    assert "router lost is left out: it is not connected." in result.err


def test_it_prints_json(fed: Fed, plane: FakeControlPlane) -> None:
    known(plane)
    told = json.loads(fed("dns", "export", "i.example.net", "-o", "json").out)
    assert [r["router"] for r in told["records"]] == ["eu"]
    assert told["left_out"] == {"lost": "it is not connected"}


def test_what_cannot_be_is_said(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("dns", "export", "nowhere").code == 1
    nobody = fed("dns", "export", "i.example.net")
    assert (nobody.code, nobody.out) == (6, "")
    assert "no router" in nobody.err
