import json
from typing import Any

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

WORDS = ("route", "explain", "--model", "filetype", "--from", "203.0.113.7")


def candidate(cluster: str, **more: object) -> dict[str, object]:
    return {
        "cluster": cluster,
        "region": cluster,
        "rtt_ms": 11.25,
        "rtt_measured": True,
        "in_flight": 2.0,
        "service_ms": 3.0,
        "score_ms": 20.3,
        "state": "closed",
        "excluded": None,
        **more,
    }


def explained(plane: FakeControlPlane) -> list[dict[str, Any]]:
    for name, longitude in (("router-eu", 8.7), ("router-us", -77.0)):
        plane.put("routers", name, {}, {"location": {"latitude": 45.0, "longitude": longitude}})
    client = {"address": "203.0.113.7", "location": {"latitude": 45.0, "longitude": 2.3}}
    out = candidate("us", excluded="no warm replica\x1b[2J", score_ms=None, rtt_measured=False)
    explanation = {
        "chosen": "eu",
        "candidates": [candidate("eu"), out],
        "client": client,
        "why": "eu is the only candidate left.",
    }
    routers: list[dict[str, Any]] = [
        {"router": "router-lost", "url": "http://l", "explanation": None, "error": "it is mute."},
        {"router": "router-us", "url": "http://u", "explanation": explanation, "error": ""},
        {"router": "router-eu", "url": "http://e", "explanation": explanation, "error": ""},
    ]
    plane.explanation = {"routers": routers}
    return routers


def test_each_router_tells_why_the_nearest_first(fed: Fed, plane: FakeControlPlane) -> None:
    explained(plane)
    result = fed(*WORDS)
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0] == "router router-eu (http://e, 503 km from the client)"
    assert lines[1] == "  eu is the only candidate left."
    assert lines[2].split() == ["CLUSTER", "REGION", "RTT", "IN-FLIGHT", "SCORE", "NOTE"]
    assert lines[3].split() == ["*", "eu", "eu", "11.2ms", "2", "20.3ms", "-"]
    assert lines[4].split()[1:4] == ["us", "us", "~11.2ms"]
    assert "\x1b" not in result.out
    assert [line.split()[1] for line in lines if line.startswith("router")] == [
        "router-eu",
        "router-us",
        "router-lost",
    ]
    assert lines[-1] == "  it is mute."
    assert "BREAKER" in fed(*WORDS, "-o", "wide").out


def test_as_json_it_is_the_answer(fed: Fed, plane: FakeControlPlane) -> None:
    routers = explained(plane)
    assert json.loads(fed(*WORDS, "-o", "json").out)["routers"] == routers[::-1]


def test_the_reference_and_the_address_are_asked_for(fed: Fed, plane: FakeControlPlane) -> None:
    fed("route", "explain", "--model", "m@2", "--from", "2001:db8::7")
    assert plane.methods[0] == "GET /api/v1/routes/explain?model=m%402&from=2001%3Adb8%3A%3A7"
    fed("route", "explain", "--model", "m", "--from", "::1", "--client", "u 7")
    assert plane.methods[-2].endswith("from=%3A%3A1&client=u+7")
    assert fed("route", "explain", "--model", "m").code == 2


def test_without_routers_or_answers_it_fails_in_words(fed: Fed, plane: FakeControlPlane) -> None:
    alone = fed(*WORDS)
    assert alone.code == 6
    assert "no router is connected" in alone.err
    plane.explanation = {"routers": explained(plane)[:1]}
    mute = fed(*WORDS)
    assert (mute.code, mute.out) == (1, "")
    assert mute.err == "error: no router could explain it: it is mute.\n"


def test_during_a_rollout_each_version_has_its_line(fed: Fed, plane: FakeControlPlane) -> None:
    explanation = {
        "chosen": "eu",
        "version": 3,
        "split": {"rollout": "ro-1"},
        "candidates": [
            candidate("eu", version=3),
            candidate("eu", version=2, excluded="the canary, version 3, answers"),
        ],
        "why": "Canary, ro-1: client 3.0 < 25 % in eu.",
    }
    plane.explanation = {"routers": [{"router": "r", "url": "u", "explanation": explanation}]}
    lines = fed(*WORDS).out.splitlines()
    assert lines[2].split()[:3] == ["CLUSTER", "VERSION", "REGION"]
    assert lines[3].split()[:4] == ["*", "eu", "3", "eu"]
    assert lines[4].split()[:4] == ["-", "eu", "2", "eu"]
