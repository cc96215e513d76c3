import pytest

from federation.cli.dns_records import as_json, as_zone, check_dns_name, export
from federation.cli.documents import Json
from federation.contract.errors import Invalid


def router(
    name: str,
    url: str,
    *rtts_ms: float,
    sick: int = 0,
    connected: bool = True,
    place: tuple[float, float] | None = None,
) -> Json:
    clusters = {f"c{i}": {"rtt_ms": ms, "healthy": True} for i, ms in enumerate(rtts_ms)}
    clusters |= {f"s{i}": {"rtt_ms": 0.0, "healthy": False} for i in range(sick)}
    location = {"latitude": place[0], "longitude": place[1]} if place else None
    status = {"url": url, "connected": connected, "clusters": clusters, "location": location}
    return {"metadata": {"name": name}, "status": status}


EU = router("eu", "https://192.0.2.1:8443", 2.0, 90.0, place=(52.37, -4.9))
US = router("us", "https://us.example.net", 14.0, 88.0, place=(-33.0, 77.5))


def test_weights_follow_what_was_measured() -> None:
    found = export("i.example.net", 60, [US, EU, router("x", "http://[2001:db8::1]", 2.0, sick=1)])
    weights = {r.router: r.weight for r in found.records}
    assert weights == {"eu": 100, "us": 50, "x": 50}
    assert [(r.type, r.value, r.port) for r in found.records] == [
        ("A", "192.0.2.1", 8443),
        ("CNAME", "us.example.net", 443),
        ("AAAA", "2001:db8::1", 80),
    ]
    far = export("i.example.net", 60, [EU, router("far", "http://192.0.2.9", 5000.0)])
    assert {r.router: r.weight for r in far.records} == {"eu": 100, "far": 1}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (router("r", "https://r.example.net", 2.0, connected=False), "not connected"),
        (router("r", "http://127.0.0.1:7400", 2.0), "own machine"),
        (router("r", "http://0.0.0.0:7400", 2.0), "own machine"),
        (router("r", "", 2.0), "--advertise-url"),
        (router("r", "https://a b", 2.0), "--advertise-url"),
        (router("r", "https://[x", 2.0), "--advertise-url"),
        (router("r", "https://r.example.net", sick=2), "no cluster healthy"),
        (router("r", "https://r.example.net"), "no cluster healthy"),
    ],
)
def test_who_cannot_answer_is_left_out_with_a_reason(wrong: Json, why: str) -> None:
    found = export("i.example.net", 60, [wrong, EU])
    assert [r.router for r in found.records] == ["eu"]
    assert why in found.left_out["r"]


def test_the_zone_file() -> None:
    lines = list(as_zone(export("i.example.net", 30, [US, EU, router("lo", "", 1.0)])))
    plain = [line.partition(" ;")[0] for line in lines if not line.startswith(";")]
    assert plain == [
        "$ORIGIN example.net.",
        "$TTL 30",
        "eu.i IN A 192.0.2.1",
        "eu.i IN LOC 52 22 12.000 N 4 54 0.000 W 0m 10000m",
        "i IN A 192.0.2.1",
        "us.i IN CNAME us.example.net.",
        "_inference._tcp.i IN SRV 0 100 8443 eu.i",
        "_inference._tcp.i IN SRV 0 50 443 us.example.net.",
    ]
    assert "lo is left out" in lines[1]


def test_the_json_has_places_and_measurements() -> None:
    told = as_json(export("i.example.net", 60, [EU]))
    (record,) = told["records"]
    assert (record["latitude"], record["reach_ms"], record["healthy"]) == (52.37, 2.0, 2)
    assert (told["name"], told["ttl_s"], told["left_out"]) == ("i.example.net", 60, {})


def test_names() -> None:
    assert check_dns_name("Inference.Example.NET.") == "inference.example.net"
    for wrong in ("", "localhost", "a..b", "a b.c", "-a.b", "x." + "a" * 64, "a.b\n"):
        with pytest.raises(Invalid):
            check_dns_name(wrong)
