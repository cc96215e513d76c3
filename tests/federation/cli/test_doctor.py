import json
from pathlib import Path

from tests.federation.cli.conftest import Fed


def test_before_joining_each_failure_names_its_remedy(fed_alone: Fed, tmp_path: Path) -> None:
    token = tmp_path / "join.token"
    token.write_text("x")
    token.chmod(0o644)
    result = fed_alone("doctor", "--pre", "--join-token-file", str(token), "-o", "json")
    assert result.code == 1
    found = {finding["check"]: finding for finding in json.loads(result.out)}
    assert found["python"]["result"] == "ok"
    assert found["join token"]["remedy"] == f"chmod 600 {token}"


def test_without_pre_its_flags_are_a_mistake(fed_alone: Fed) -> None:
    result = fed_alone("doctor", "--listen", "127.0.0.1:1")
    assert result.code == 2
    assert "--listen only makes sense with --pre" in result.err


def test_a_control_plane_that_is_gone_is_the_first_finding(fed_alone: Fed) -> None:
    result = fed_alone("doctor", "--endpoint", "https://127.0.0.1:1")
    assert result.code == 1
    assert "control plane" in result.out.splitlines()[1]
