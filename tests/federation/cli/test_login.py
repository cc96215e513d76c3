import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from federation.identity.authority import Authority
from federation.runtime.clock import SystemClock
from tests.federation.cli.conftest import Fed
from tests.federation.cli.threaded_plane import Threaded, threaded


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    with threaded(tmp_path_factory.mktemp("state")) as plane:
        yield plane


@pytest.fixture(autouse=True)
def no_roots_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FED_CA_FILE", raising=False)


def held(config: Path) -> dict[str, dict[str, str]]:
    contexts: dict[str, dict[str, str]] = yaml.safe_load(config.read_text())["contexts"]
    return contexts


def test_login_by_state_directory(fed_alone: Fed, clean_environment: Path, real: Threaded) -> None:
    done = fed_alone("login", real.url, "--state-dir", str(real.state_dir))
    assert done.code == 0, done.err
    assert done.out == (
        f"logged in to {real.url} as admin/local (admin); context local is the current one\n"
    )
    assert held(clean_environment)["local"] == {
        "endpoint": real.url,
        "token_file": str(real.state_dir / "admin.token"),
        "ca_file": str(real.state_dir / "ca.pem"),
    }
    assert stat.S_IMODE(clean_environment.stat().st_mode) == 0o600
    assert fed_alone("get", "clusters").code == 0
    who = fed_alone("whoami")
    assert who.out.splitlines()[0] == "admin/local"
    assert who.out.splitlines()[2].split() == ["admin", "-"]
    shown = json.loads(fed_alone("whoami", "-o", "json").out)
    assert shown["name"] == "admin/local"
    assert fed_alone("logout").out == "context local is forgotten\n"
    assert (real.state_dir / "admin.token").exists()
    assert fed_alone("logout").code == 3


def test_login_by_pin_keeps_roots_and_token_beside_the_contexts(
    fed_alone: Fed, clean_environment: Path, real: Threaded
) -> None:
    words = ("login", real.url, "--ca-pin", real.pin, "--context", "lab")
    done = fed_alone(*words, "--token-file", "-", stdin=real.plane.admin.text)
    assert done.code == 0, done.err
    context = held(clean_environment)["lab"]
    for name in ("token_file", "ca_file"):
        assert stat.S_IMODE(Path(context[name]).stat().st_mode) == 0o600
        assert Path(context[name]).parent == clean_environment.parent
    assert Path(context["ca_file"]).read_text() == (real.state_dir / "ca.pem").read_text()
    assert fed_alone("get", "clusters").code == 0
    assert fed_alone("logout", "--context", "lab").code == 0
    assert not Path(context["token_file"]).exists()
    assert not Path(context["ca_file"]).exists()


def test_a_wrong_pin_gets_no_token(
    fed_alone: Fed, clean_environment: Path, real: Threaded, tmp_path: Path
) -> None:
    token = tmp_path / "t"
    token.write_text(real.plane.admin.text)
    pin = "sha256:" + "0" * 64
    done = fed_alone("login", real.url, "--ca-pin", pin, "--token-file", str(token))
    assert done.code == 1
    assert "somebody sits in between" in done.err
    assert not clean_environment.exists()
    done = fed_alone("login", real.url, "--ca-pin", "abc", "--token-file", str(token))
    assert "is no pin" in done.err


def test_roots_of_another_federation_prove_nothing(
    fed_alone: Fed, clean_environment: Path, real: Threaded, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "ca", trust_domain="federation.internal", clock=SystemClock())
    file = tmp_path / "other.pem"
    file.write_text(other.roots[other.signing].pem)
    token = str(real.state_dir / "admin.token")
    for words in (("--ca-file", str(file)), ()):
        done = fed_alone("login", real.url, "--token-file", token, *words)
        assert done.code == 4
        assert "cannot prove to be the control plane" in done.err
        assert "--ca-pin" in done.err
    assert not clean_environment.exists()


def test_login_checks_the_token_before_anything_is_kept(
    fed_alone: Fed, clean_environment: Path, real: Threaded
) -> None:
    words = ("login", real.url, "--ca-file", str(real.state_dir / "ca.pem"))
    bad = "fed_user_alice_" + "a" * 43
    done = fed_alone(*words, "--token-file", "-", stdin=bad)
    assert done.code == 4
    assert bad not in done.err
    assert fed_alone(*words, "--token-file", "-", stdin="").code == 1
    assert fed_alone(*words, "--token-file", "/nowhere").code == 1
    assert not clean_environment.exists()


def test_login_says_what_it_needs(fed_alone: Fed, real: Threaded, tmp_path: Path) -> None:
    assert fed_alone("login").code == 2
    both = ("--ca-pin", real.pin, "--state-dir", str(real.state_dir))
    assert fed_alone("login", real.url, *both).code == 2
    assert fed_alone("login", "nonsense", "--token-file", "-").code == 1
    assert fed_alone("login", real.url, "--state-dir", str(tmp_path)).code == 1
    plain = real.url.replace("https", "http")
    done = fed_alone("login", plain, "--ca-pin", real.pin)
    assert "starts with https://" in done.err


def test_what_a_limited_key_may_is_shown(fed_alone: Fed, real: Threaded) -> None:
    assert fed_alone("login", real.url, "--state-dir", str(real.state_dir)).code == 0
    made = fed_alone(
        *("key", "create", "ml", "--role", "model-owner", "--model", "a-*", "--model", "b")
    )
    assert made.code == 0, made.err
    words = ("login", real.url, "--ca-file", str(real.state_dir / "ca.pem"), "--context", "ml")
    done = fed_alone(*words, "--token-file", "-", stdin=made.out)
    assert "as user/ml (model-owner of a-*, b)" in done.out
    assert fed_alone("whoami").out.splitlines()[2].split() == ["model-owner", "a-*,", "b"]
    refused = fed_alone("key", "list")
    assert refused.code == 0
    refused = fed_alone("key", "revoke", "ml", "--yes")
    assert refused.code == 4
    assert "fed whoami" in refused.err
    assert fed_alone("key", "revoke", "ml", "--yes", "--context", "local").code == 0
    assert fed_alone("whoami").code == 4


def test_plain_http_to_a_control_plane_is_explained(fed_alone: Fed, real: Threaded) -> None:
    done = fed_alone("get", "clusters", "--endpoint", real.url.replace("https", "http"))
    assert done.code == 6
    assert "https://" in done.err
