import os
import socket
from pathlib import Path

import pytest

from federation.cli.checks import local
from federation.cli.checks.finding import Verdict


def test_old_pythons_are_named() -> None:
    assert local.python_version((3, 10, 1)).verdict is Verdict.FAILED
    assert local.python_version((3, 11, 0)).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("mode", "verdict"), [(0o600, Verdict.OK), (0o640, Verdict.FAILED), (0o604, Verdict.FAILED)]
)
def test_a_secret_is_for_its_owner_alone(tmp_path: Path, mode: int, verdict: Verdict) -> None:
    path = tmp_path / "token"
    path.write_text("x")
    path.chmod(mode)
    finding = local.secret_file("token", path)
    assert finding.verdict is verdict
    assert (f"chmod 600 {path}" == finding.remedy) == (verdict is Verdict.FAILED)


def test_a_secret_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    assert local.secret_file("token", tmp_path / "none").verdict is Verdict.FAILED


def test_a_state_directory_may_be_missing_but_not_open(tmp_path: Path) -> None:
    assert local.state_directory(tmp_path / "a" / "b").verdict is Verdict.OK
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    os.chmod(folder, 0o755)
    assert local.state_directory(folder).verdict is Verdict.WARNING
    os.chmod(folder, 0o700)
    assert local.state_directory(folder).verdict is Verdict.OK


def test_ports_are_free_taken_or_nonsense() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert local.port_free("listen", address).verdict is Verdict.FAILED
    assert local.port_free("listen", address).verdict is Verdict.OK
    for nonsense in ("127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"):
        assert local.port_free("listen", nonsense).verdict is Verdict.FAILED


def test_an_engine_that_other_machines_reach_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        assert local.engine(url, ()).verdict is Verdict.OK
        assert local.engine(url, ("127.0.0.2",)).verdict is Verdict.OK  # refused there
        exposed = local.engine(url, ("127.0.0.1",))  # stands for this machine's own address
        assert exposed.verdict is Verdict.FAILED
        assert "without any authentication" in exposed.seen
    assert "nothing answers" in local.engine(url, ()).seen


def test_own_addresses_are_never_loopback() -> None:
    assert not [a for a in local.own_addresses() if a.startswith("127.")]
