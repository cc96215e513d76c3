"""Logins that other tools keep."""

import json
from base64 import b64encode
from pathlib import Path

import pytest

from federation.contract.errors import Invalid
from federation.sources.docker_login import Login, login_for


def _write(tmp_path: Path, document: object) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps(document))


def test_no_file_no_login(tmp_path: Path) -> None:
    assert login_for("reg.io") is None


@pytest.mark.parametrize(
    ("registry", "key"),
    [("reg.io", "reg.io"), ("reg.io:5000", "https://reg.io:5000"),
     ("docker.io", "https://index.docker.io/v1/")],
)  # fmt: skip
def test_a_login_is_found(tmp_path: Path, registry: str, key: str) -> None:
    auth = b64encode(b"ann:pa:ss").decode()
    _write(tmp_path, {"auths": {key: {"auth": auth}, "other": {}}})
    assert login_for(registry) == Login("ann", "pa:ss")
    assert login_for("else.io") is None
    assert "pa:ss" not in repr(login_for(registry))


def test_a_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        '#!/bin/sh\nread server\necho "{\\"Username\\":\\"ann\\",\\"Secret\\":\\"$server\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    _write(tmp_path, {"credHelpers": {"reg.io": "test", "odd.io": "../test", "gone.io": "absent"}})
    assert login_for("reg.io") == Login("ann", "reg.io")
    assert login_for("odd.io") is None
    assert login_for("gone.io") is None


@pytest.mark.parametrize(
    "document", [[], {"auths": []}, {"auths": {"reg.io": "x"}}, {"auths": {"reg.io": {}}}]
)
def test_odd_files_hold_no_login(tmp_path: Path, document: object) -> None:
    _write(tmp_path, document)
    assert login_for("reg.io") is None


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, {"auths": {"reg.io": {"auth": "%%%"}}})
    with pytest.raises(Invalid):
        login_for("reg.io")
    (tmp_path / "docker" / "config.json").write_text("{")
    with pytest.raises(Invalid):
        login_for("reg.io")
