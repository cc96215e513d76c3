import json
from typing import Any

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

WORDS = ("route", "explain", "--request", "abc")
RECORD: dict[str, Any] = {
    "ended_at": "2026-01-02T03:04:05.678+00:00",
    "client": "192.0.2.1",
    "tenant": "acme",
    "model": "digits",
    "version": 2,
    "chosen": "eu-1",
    "scores": [
        {"cluster": "eu-1", "region": "eu", "score_ms": 12.3},
        {"cluster": "us-1\x1b[2J", "region": "us", "score_ms": 88.0},
    ],
    "why": "eu-1 was chosen: it was the only one; answered 200 after 5.0 ms.",
}
MUTE = {"router": "us", "url": "http://u", "explanation": None, "error": "remembers nothing."}


def test_it_tells_where_a_request_went(fed: Fed, plane: FakeControlPlane) -> None:
    told = {"router": "eu", "url": "http://e", "explanation": {"records": [RECORD]}, "error": ""}
    plane.explanation = {"routers": [told, MUTE]}
    result = fed(*WORDS)
    lines = result.out.splitlines()
    assert result.code == 0
    assert plane.methods == ["GET /api/v1/routes/explain?request=abc"]
    assert lines[0] == "router eu (http://e)"
    assert "digits@2 for 192.0.2.1, tenant acme: eu-1 was chosen" in lines[1]
    assert lines[2].split() == ["CLUSTER", "REGION", "SCORE"]
    assert lines[3].split() == ["*", "eu-1", "eu", "12.3ms"]
    assert "\x1b" not in result.out
    assert "us" not in [line.split()[1] for line in lines if line.startswith("router")]
    assert json.loads(fed(*WORDS, "-o", "json").out)["routers"] == [told]


def test_what_nobody_remembers_is_not_found(fed: Fed, plane: FakeControlPlane) -> None:
    plane.explanation = {"routers": [MUTE]}
    result = fed(*WORDS)
    assert (result.code, result.out) == (3, "")
    assert "remembers nothing." in result.err
    plane.explanation = {"routers": []}
    assert "no router is connected" in fed(*WORDS).err


def test_a_request_stands_alone(fed: Fed) -> None:
    for more in (("--model", "m"), ("--from", "192.0.2.1")):
        assert fed(*WORDS, *more).code == 2
    assert fed("route", "explain").code == 2
