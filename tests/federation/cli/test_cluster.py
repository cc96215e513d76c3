import json
import shlex
import stat
from pathlib import Path

import msgspec
import pytest

from federation.contract.sync import SyncSpec
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

ANY_TIME = json.loads(msgspec.json.encode(SyncSpec()))


@pytest.fixture(autouse=True)
def region(plane: FakeControlPlane) -> None:
    plane.put("regions", "eu", {})


def test_registering_prints_one_command_on_stdout(fed: Fed, plane: FakeControlPlane) -> None:
    result = fed(
        *("cluster", "register", "eu-west", "--region", "eu", "--engine", "triton"),
        *("--label", "tier=gold", "--label", "rack=7", "--allow-code"),
    )
    assert result.code == 0
    assert len(result.out.splitlines()) == 1
    assert "fed_join_eu-west_secretsecret" in result.out
    assert "fed_join" not in result.err
    assert "expires at 2026-01-01T01:00:00Z" in result.err
    assert plane.objects["clusters"]["eu-west"]["spec"] == {
        "region": "eu",
        "labels": {"tier": "gold", "rack": "7"},
        "allow_code": True,
        "connectivity": "dial",
        "sync": ANY_TIME,
    }
    assert f"--ca-pin sha256:{'0' * 64} " in result.out
    assert "--connectivity" not in result.out


def test_a_cluster_behind_a_nat_that_waits_for_a_yes(fed: Fed, plane: FakeControlPlane) -> None:
    words = ("cluster", "register", "edge-7", "--region", "eu", "--connectivity", "reverse")
    result = fed(*words, "--require-accept", "--token-ttl", "10m")
    assert "--connectivity reverse" in result.out
    (asked,) = plane.registrations
    assert asked["spec"]["connectivity"] == "reverse"
    assert (asked["requireAccept"], asked["tokenTtlSeconds"]) == (True, 600)
    again = fed("cluster", "register", "edge-7", "--rejoin")
    assert "--connectivity reverse" in again.out


def test_what_the_command_takes_for_granted_is_told(fed: Fed) -> None:
    words = ("cluster", "register", "--region", "eu")
    plain = fed(*words, "one").err
    assert "the engine at http://127.0.0.1:8000 (else: --engine-url) and Triton's" in plain
    static = fed(*words, "two", "--engine", "static", "--url", "http://x:1").err
    assert "It expects" not in static


def test_with_a_token_file_the_token_is_only_there(fed: Fed, tmp_path: Path) -> None:
    path = tmp_path / "join.token"
    result = fed("cluster", "register", "eu-west", "--region", "eu", "--token-file", str(path))
    assert "fed_join" not in result.out + result.err
    assert shlex.split(result.out)[0] == "fed-edge-agent"
    assert f"--join-token-file {path}" in result.out
    assert path.read_text() == "fed_join_eu-west_secretsecret\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = fed("cluster", "register", "us", "--region", "eu", "--token-file", str(path))
    assert again.code == 1
    assert "exists already" in again.err


def test_a_refused_registration_leaves_no_file(fed: Fed, tmp_path: Path) -> None:
    path = tmp_path / "join.token"
    words = ("cluster", "register", "eu-west", "--token-file", str(path))
    assert fed(*words, "--region", "nowhere").code == 3
    assert fed(*words).code == 2
    assert not path.exists()


def test_a_taken_name_ends_with_5_and_rejoin_keeps_the_spec(
    fed: Fed, plane: FakeControlPlane
) -> None:
    fed("cluster", "register", "eu-west", "--region", "eu", "--allow-code", "--label", "a=b")
    taken = fed("cluster", "register", "eu-west", "--region", "eu")
    assert taken.code == 5
    assert "--rejoin" in taken.err
    assert fed("cluster", "register", "eu-west", "--rejoin").code == 0
    spec = plane.objects["clusters"]["eu-west"]["spec"]
    assert spec == {
        "region": "eu",
        "labels": {"a": "b"},
        "allow_code": True,
        "connectivity": "dial",
        "sync": ANY_TIME,
    }
    fed("cluster", "register", "eu-west", "--rejoin", "--no-allow-code")
    assert plane.objects["clusters"]["eu-west"]["spec"]["allow_code"] is False


def test_as_json_it_is_the_answer_with_the_command(fed: Fed, tmp_path: Path) -> None:
    words = ("cluster", "register", "--region", "eu", "-o", "json")
    shown = json.loads(fed(*words, "a").out)
    assert shown["joinToken"] == "fed_join_a_secretsecret"
    assert "fed-edge-agent" in shown["command"]
    hidden = json.loads(fed(*words, "b", "--token-file", str(tmp_path / "t")).out)
    assert "joinToken" not in hidden
    assert "fed_join" not in hidden["command"]


def test_a_static_engine_needs_its_url(fed: Fed) -> None:
    words = ("cluster", "register", "lab", "--region", "eu", "--engine", "static")
    assert fed(*words).code == 2
    assert "--engine static --engine-url http://x:1" in fed(*words, "--url", "http://x:1").out


def test_bad_names_and_labels_are_refused(fed: Fed) -> None:
    assert fed("cluster", "register", "EU", "--region", "eu").code == 1
    assert fed("cluster", "register", "eu", "--region", "eu", "--label", "x").code == 2


@pytest.mark.parametrize(
    ("verb", "said", "scheduling"),
    [
        ("cordon", "cordoned", "cordoned"),
        ("uncordon", "uncordoned", "active"),
        ("drain", "draining", "draining"),
    ],
)
def test_scheduling(
    fed: Fed, plane: FakeControlPlane, verb: str, said: str, scheduling: str
) -> None:
    plane.put("clusters", "eu-west", {"region": "eu"})
    assert fed("cluster", verb, "eu-west").out == f"cluster/eu-west {said}\n"
    assert plane.objects["clusters"]["eu-west"]["status"]["scheduling"] == scheduling
    assert fed("cluster", verb, "absent").code == 3


def test_drain_can_wait_until_nothing_is_in_flight(fed: Fed, plane: FakeControlPlane) -> None:
    busy = {"versions": [{"in_flight": 2}]}
    plane.put("clusters", "eu-west", {"region": "eu"}, busy)
    late = fed("cluster", "drain", "eu-west", "--wait", "--timeout", "0.1s")
    assert late.code == 7
    assert "2 requests are in flight" in late.err
    idle = {"versions": [{"in_flight": 0}]}
    plane.put("clusters", "eu-west", {"region": "eu"}, idle)
    assert fed("cluster", "drain", "eu-west", "--wait").code == 0
    stale = {**idle, "lease": {"connected": True}, "last_report_s": 60.0}
    plane.put("clusters", "eu-west", {"region": "eu"}, stale)
    early = fed("cluster", "drain", "eu-west", "--wait", "--timeout", "0.1s")
    assert (early.code, "its next report is awaited" in early.err) == (7, True)


def test_remove(fed: Fed, plane: FakeControlPlane) -> None:
    plane.put("clusters", "eu-west", {"region": "eu"})
    assert fed("cluster", "remove", "eu-west").out == "cluster/eu-west deleted\n"
    assert plane.objects["clusters"] == {}
