import json
import stat
from pathlib import Path

import yaml

from tests.federation.cli.conftest import Fed


def test_contexts_are_made_listed_used_and_changed(
    fed_alone: Fed, clean_environment: Path, tmp_path: Path
) -> None:
    fed = fed_alone
    token = str(tmp_path / "lab.token")
    made = fed("config", "set-context", "lab", "--endpoint", "http://lab:1/", "--token-file", token)
    assert made.out == "context lab created\n"
    other = ("--endpoint", "http://field:2", "--ca-file", "/ca.pem")
    assert fed("config", "set-context", "field", *other).code == 0
    assert yaml.safe_load(clean_environment.read_text()) == {
        "current_context": "lab",
        "contexts": {
            "lab": {"endpoint": "http://lab:1", "token_file": token, "ca_file": ""},
            "field": {"endpoint": "http://field:2", "token_file": "", "ca_file": "/ca.pem"},
        },
    }
    assert stat.S_IMODE(clean_environment.stat().st_mode) == 0o600
    assert fed("config", "use-context", "field").out == "context field is the current one\n"
    lines = [line.split() for line in fed("config", "get-contexts").out.splitlines()]
    assert lines[0] == ["CURRENT", "NAME", "ENDPOINT", "TOKEN-FILE", "CA-FILE"]
    assert lines[2] == ["*", "field", "http://field:2", "-", "/ca.pem"]
    changed = fed("config", "set-context", "lab", "--endpoint", "http://lab:3", "--use")
    assert changed.out == "context lab changed\n"
    shown = json.loads(fed("config", "get-contexts", "-o", "json").out)
    assert shown["current_context"] == "lab"
    assert shown["contexts"]["lab"]["endpoint"] == "http://lab:3"
    assert shown["contexts"]["lab"]["token_file"] == token
    assert fed("config", "get-contexts", "-o", "name").out == "lab\nfield\n"


def test_a_relative_token_file_is_kept_as_an_absolute_path(
    fed_alone: Fed, clean_environment: Path
) -> None:
    fed_alone("config", "set-context", "lab", "--token-file", "lab.token")
    held = yaml.safe_load(clean_environment.read_text())["contexts"]["lab"]["token_file"]
    assert held == str(Path("lab.token").absolute())


def test_unknown_contexts_and_bad_values_are_refused(fed_alone: Fed) -> None:
    fed_alone("config", "set-context", "lab")
    unknown = fed_alone("config", "use-context", "lob")
    assert unknown.code == 3
    assert "Did you mean 'lab'?" in unknown.err
    assert fed_alone("config", "set-context", "x", "--endpoint", "nonsense").code == 1
    assert fed_alone("config", "set-context", "Not A Name").code == 1
    assert fed_alone("get", "clusters", "--context", "lob").code == 3


def test_view_shows_values_and_where_they_came_from(
    fed_alone: Fed, clean_environment: Path
) -> None:
    fed_alone("config", "set-context", "lab", "--token-file", "/lab.token")
    words = ("config", "view", "--endpoint", "http://flag:9")
    lines = fed_alone(*words, "--show-origin").out.splitlines()
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert rows["endpoint"] == "http://flag:9 flag --endpoint"
    assert rows["token_file"] == f"/lab.token context lab of {clean_environment}"
    assert rows["config"] == f"{clean_environment} environment FED_CONFIG"
    assert "flag" not in fed_alone("config", "view").out
    shown = json.loads(fed_alone(*words, "-o", "json").out)
    assert shown["endpoint"] == "http://flag:9"
    told = json.loads(fed_alone(*words, "-o", "json", "--show-origin").out)
    assert told["endpoint"] == {"value": "http://flag:9", "origin": "flag --endpoint"}


def test_a_broken_file_is_told_with_its_line(fed_alone: Fed, clean_environment: Path) -> None:
    clean_environment.write_text("current_contxt: lab\n")
    refused = fed_alone("get", "clusters")
    assert refused.code == 1
    assert "line 1: unknown key 'current_contxt'. Did you mean 'current_context'?" in refused.err
