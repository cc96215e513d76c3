import io
import stat
from pathlib import Path

import pytest

from federation.cli.settings import (
    ConfigFile,
    Context,
    check_endpoint,
    config_path,
    load_config,
    read_token,
    resolve,
    save_config,
    with_context,
)
from federation.contract.errors import Invalid, NotFound


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "fed" / "config.yaml"
    contexts = {
        "lab": Context(endpoint="http://lab:1", token_file="/lab.token", ca_file="/lab.pem"),
        "field": Context(endpoint="http://field:2"),
    }
    save_config(path, ConfigFile(current_context="lab", contexts=contexts))
    return {"FED_CONFIG": str(path)}


def test_flag_beats_environment_beats_context_beats_default(environ: dict[str, str]) -> None:
    assert resolve({}, {"FED_CONFIG": "/nowhere"}).endpoint.value == "https://127.0.0.1:7480"
    held = resolve({}, environ)
    assert (held.endpoint.value, held.token_file.value) == ("http://lab:1", "/lab.token")
    assert held.endpoint.origin == f"context lab of {environ['FED_CONFIG']}"
    assert (held.ca_file.value, resolve({}, {"FED_CONFIG": "/no"}).ca_file.value) == (
        "/lab.pem",
        "",
    )
    assert resolve({}, environ | {"FED_CA_FILE": "/env.pem"}).ca_file.value == "/env.pem"
    assert resolve({"ca_file": "/flag.pem"}, environ).ca_file.origin == "flag --ca-file"
    environ["FED_ENDPOINT"] = "http://env:3"
    assert resolve({}, environ).endpoint.origin == "environment FED_ENDPOINT"
    flagged = resolve({"endpoint": "http://flag:4"}, environ)
    assert (flagged.endpoint.value, flagged.endpoint.origin) == ("http://flag:4", "flag --endpoint")
    assert flagged.token_file.value == "/lab.token"


def test_a_context_is_chosen_by_flag_or_environment(environ: dict[str, str]) -> None:
    environ["FED_CONTEXT"] = "field"
    assert resolve({}, environ).endpoint.value == "http://field:2"
    assert resolve({"context": "lab"}, environ).endpoint.value == "http://lab:1"


def test_an_unknown_context_is_refused_with_near_misses(environ: dict[str, str]) -> None:
    with pytest.raises(NotFound) as refused:
        resolve({"context": "lob"}, environ)
    assert "Did you mean 'lab'?" in refused.value.sentence()


def test_the_file_is_readable_by_its_owner_only(environ: dict[str, str]) -> None:
    assert stat.S_IMODE(Path(environ["FED_CONFIG"]).stat().st_mode) == 0o600


def test_an_unknown_key_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("current_context: lab\ncontexts:\n  lab:\n    endpint: http://x\n")
    with pytest.raises(Invalid) as refused:
        load_config(path)
    assert "line 4: unknown key 'endpint'. Did you mean 'endpoint'?" in refused.value.sentence()


@pytest.mark.parametrize("text", ["a: 1\n---\nb: 2\n", "[1]\n", "a: [\n", "contexts: 7\n"])
def test_a_broken_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(Invalid, match=r"config\.yaml"):
        load_config(path)


def test_an_absent_or_empty_file_is_no_context(tmp_path: Path) -> None:
    assert load_config(tmp_path / "none.yaml") == ConfigFile()
    (tmp_path / "empty.yaml").write_text("\n")
    assert load_config(tmp_path / "empty.yaml") == ConfigFile()
    with pytest.raises(Invalid, match="cannot read"):
        load_config(tmp_path)


def test_the_first_context_becomes_the_current_one() -> None:
    first = with_context(ConfigFile(), "a", Context(), use=False)
    assert first.current_context == "a"
    assert with_context(first, "b", Context(), use=False).current_context == "a"
    assert with_context(first, "b", Context(), use=True).current_context == "b"


def test_where_the_file_is() -> None:
    assert config_path({"FED_CONFIG": "/a"}).value == "/a"
    assert config_path({"XDG_CONFIG_HOME": "/x"}).value == "/x/fed/config.yaml"
    assert config_path({}).value.endswith("/.config/fed/config.yaml")


@pytest.mark.parametrize(
    "url", ["", "host:80", "ftp://x", "http://", "http://a:b@c", "http://x:99999", "http://x?y"]
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="is no endpoint"):
        check_endpoint(url)


def test_a_slash_at_the_end_is_dropped() -> None:
    assert check_endpoint("https://x/fed/") == "https://x/fed"


def test_tokens_are_read_from_files_and_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    path.write_text("  fed_admin_x_y\n")
    assert read_token(str(path)) == "fed_admin_x_y"
    assert read_token("") == ""
    monkeypatch.setattr("sys.stdin", io.StringIO("piped\n"))
    assert read_token("-") == "piped"


@pytest.mark.parametrize("content", [b"", b"two tokens", b"a\nb", b"\xff", b"a\x00b"])
def test_a_file_without_one_token_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(Invalid, match="token file") as refused:
        read_token(str(path))
    assert "two tokens" not in refused.value.sentence()
    with pytest.raises(Invalid, match="cannot read the token file"):
        read_token(str(tmp_path / "absent"))
