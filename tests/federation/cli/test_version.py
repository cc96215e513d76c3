import json

from federation.runtime.version import software_version
from tests.federation.cli.conftest import Fed


def test_both_versions_are_shown(fed: Fed) -> None:
    result = fed("version")
    assert result.out == f"fed {software_version()}\ncontrol-plane 9.9.9\n"
    assert json.loads(fed("version", "-o", "json").out)["control-plane"] == "9.9.9"


def test_a_control_plane_that_is_away_is_no_failure(fed_alone: Fed) -> None:
    result = fed_alone("version", "--endpoint", "http://127.0.0.1:9")
    assert result.code == 0
    assert result.out == f"fed {software_version()}\n"
    assert "cannot reach" in result.err
