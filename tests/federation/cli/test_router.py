import json
import shlex
import stat
from pathlib import Path

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane


def test_registering_prints_one_command_on_stdout(fed: Fed, plane: FakeControlPlane) -> None:
    result = fed("router", "register", "pop-1", "--description", "in the lobby")
    assert result.code == 0
    assert len(result.out.splitlines()) == 1
    assert "fed_routerjoin_pop-1_secretsecret" in result.out.partition("&&")[0]
    words = shlex.split(result.out.partition("&&")[2])
    assert words[:3] == ["fed-router", "--name", "pop-1"]
    assert words[words.index("--ca-pin") + 1] == f"sha256:{'0' * 64}"
    assert "fed_routerjoin" not in result.err
    assert plane.objects["routers"]["pop-1"]["spec"] == {"description": "in the lobby"}


def test_with_a_token_file_the_token_is_only_there(fed: Fed, tmp_path: Path) -> None:
    path = tmp_path / "join.token"
    words = ("router", "register", "pop-1", "--token-file", str(path), "-o", "json")
    shown = json.loads(fed(*words).out)
    assert "joinToken" not in shown
    assert "fed_routerjoin" not in shown["command"]
    assert path.read_text() == "fed_routerjoin_pop-1_secretsecret\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_taken_name_is_refused_and_rejoin_is_not(fed: Fed) -> None:
    assert fed("router", "register", "pop-1").code == 0
    assert fed("router", "register", "pop-1").code == 5
    assert fed("router", "register", "pop-1", "--rejoin").code == 0
    assert fed("router", "register", "No_Name").code == 1


def test_remove(fed: Fed, plane: FakeControlPlane) -> None:
    fed("router", "register", "pop-1")
    assert fed("router", "remove", "pop-1").out == "router/pop-1 deleted\n"
    assert plane.objects["routers"] == {}
