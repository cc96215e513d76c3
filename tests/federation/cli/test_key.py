import json
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.federation.cli.conftest import Fed
from tests.federation.cli.threaded_plane import Threaded, threaded


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    with threaded(tmp_path_factory.mktemp("state")) as plane:
        yield plane


@pytest.fixture
def fed(fed_alone: Fed, real: Threaded, monkeypatch: pytest.MonkeyPatch) -> Fed:
    """Run `fed` against a real control plane, as its admin."""
    monkeypatch.setenv("FED_ENDPOINT", real.url)
    monkeypatch.setenv("FED_CA_FILE", str(real.state_dir / "ca.pem"))
    monkeypatch.setenv("FED_TOKEN_FILE", str(real.state_dir / "admin.token"))
    return fed_alone


def test_a_key_is_printed_once_listed_without_its_text_rotated_and_revoked(fed: Fed) -> None:
    fed("region", "create", "eu-west", "--location", "53.3,-6.2")
    words = ("--role", "operator", "--region", "eu-west", "--role", "viewer", "--expires", "90d")
    made = fed("key", "create", "alice", *words)
    assert made.code == 0, made.err
    text = made.out.strip()
    assert text.startswith("fed_user_alice_")
    assert "only time" in made.err
    listed = fed("key", "list")
    rows = [line.split("   ") for line in listed.out.splitlines()]
    assert [cell.strip() for cell in rows[0] if cell.strip()][:3] == ["NAME", "FOR", "EXPIRES"]
    assert "operator of eu-west and viewer" in listed.out
    assert text not in listed.out + fed("key", "list", "-o", "json").out
    (key,) = json.loads(fed("key", "list", "-o", "json").out)["items"]
    left = datetime.fromisoformat(key["status"]["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < left < timedelta(days=90)
    rotated = fed("key", "rotate", "alice", "--expires", "1d")
    assert rotated.out.strip() not in ("", text)
    assert fed("key", "revoke", "alice", "--yes").out == "key/alice revoked\n"
    assert fed("key", "revoke", "alice", "--yes").code == 3
    assert "There are no keys yet." in fed("key", "list").err


def test_a_tenants_key_goes_into_a_new_file(fed: Fed, tmp_path: Path) -> None:
    assert fed("tenant", "create", "acme").code == 0
    file = tmp_path / "acme.key"
    made = fed("key", "create", "acme-prod", "--tenant", "acme", "--token-file", str(file))
    assert (made.code, made.out) == (0, ""), made.err
    assert file.read_text().startswith("fed_key_acme-prod_")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = fed("key", "rotate", "acme-prod", "--key-file", str(file))
    assert again.code == 1
    other = tmp_path / "new.key"
    shown = fed("key", "rotate", "acme-prod", "--key-file", str(other), "-o", "json")
    assert "text" not in json.loads(shown.out)
    assert other.read_text() not in ("", file.read_text())
    assert "tenant acme" in fed("get", "keys").out
    assert fed("delete", "key/acme-prod", "--yes").code == 0


def test_a_file_that_got_no_key_is_not_left(fed: Fed, tmp_path: Path) -> None:
    file = tmp_path / "x.key"
    assert fed("key", "create", "x", "--tenant", "nobody", "--key-file", str(file)).code == 3
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("key", "create", "x"), 2),
        (("key", "create", "x", "--tenant", "t", "--role", "admin"), 2),
        (("key", "create", "x", "--tenant", "t", "--model", "m"), 2),
        (("key", "create", "x", "--role", "root"), 2),
        (("key", "create", "x", "--role", "viewer", "--region", "eu-west"), 2),
        (("key", "create", "x", "--role", "operator", "--model", "m"), 2),
        (("key", "create", "x", "--role", "viewer", "--expires", "soon"), 2),
        (("key", "create", "X Y", "--role", "viewer"), 1),
        (("key", "create", "x", "--role", "operator", "--region", "mars"), 1),
        (("key", "rotate", "unknown"), 3),
    ],
)
def test_wrong_words_are_refused(fed: Fed, words: tuple[str, ...], code: int) -> None:
    assert fed(*words).code == code
