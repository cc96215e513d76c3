import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from federation.cli.exits import MEANING
from federation.cli.lazy import LazyGroup
from federation.cli.root import fed
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane

HEAVY = ("grpc", "aiohttp", "sqlalchemy", "kubernetes", "ray", "msgspec", "yaml", "blake3")
FED = [sys.executable, "-c", "import sys; from federation.cli import main; sys.exit(main())"]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group below `group`."""
    context = click.Context(group, info_name="fed")
    for name in group.list_commands(context):
        yield (*path, name)
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))


@pytest.mark.parametrize("path", [(), *commands(fed)], ids=" ".join)
def test_every_help_page_has_an_example_that_names_the_command(
    fed_alone: Fed, path: tuple[str, ...]
) -> None:
    result = fed_alone(*path, "--help")
    assert result.code == 0
    assert "Example:" in result.out
    assert " ".join(("fed", *path)) in result.out.partition("Example:")[2]


def test_every_entry_of_every_table_leads_to_a_command_and_has_a_sentence() -> None:
    groups = [fed]
    for group in groups:
        context = click.Context(group)
        for name, (_, sentence) in group.table.items():
            assert sentence.endswith(".")
            found = group.get_command(context, name)
            assert found is not None
            assert found.name == name
            if isinstance(found, LazyGroup):
                groups.append(found)
    assert {"fed", "cluster", "key", "model", "tenant"} <= {group.name for group in groups}


def test_the_exit_codes_are_documented(fed_alone: Fed) -> None:
    shown = fed_alone("--help").out
    for code, words in MEANING.items():
        assert f"{code.value:>5}  {words}" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gte"], "Did you mean 'get'?"),
        (["get"], "Missing argument 'KIND'"),
        (["get", "clusers"], "Did you mean 'clusters'"),
        (["get", "unicorns"], "There are: regions, clusters"),
        (["get", "clusters", "--colour"], "--colour"),
        (["get", "clusters", "-o", "xml"], "'xml' is not one of"),
        (["cluster", "cordn", "x"], "Did you mean 'cordon'"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(fed_alone: Fed, words: list[str], told: str) -> None:
    result = fed_alone(*words)
    assert result.code == 2
    assert told in result.err
    assert result.out == ""


def test_nothing_listening_is_one_sentence_with_the_remedy(fed_alone: Fed) -> None:
    result = fed_alone("get", "clusters", "--endpoint", "http://127.0.0.1:9")
    assert result.code == 6
    assert "cannot reach the control plane at http://127.0.0.1:9: connection refused." in result.err
    assert "fed-control-plane" in result.err
    assert len(result.err.splitlines()) == 1


def test_global_options_may_stand_in_front_and_behind(fed: Fed, url: str) -> None:
    assert fed("--endpoint", url, "get", "regions").code == 0
    assert fed("get", "regions", "--endpoint", url).code == 0
    assert fed("get", "--endpoint", "http://127.0.0.1:9", "regions").code == 6


def test_the_options_that_are_global_are_hidden_on_commands(fed_alone: Fed) -> None:
    assert "--endpoint" in fed_alone("--help").out
    assert "--endpoint" not in fed_alone("get", "--help").out


def test_debug_raises_the_error(fed_alone: Fed) -> None:
    with pytest.raises(Exception, match="cannot reach"):
        fed_alone("get", "clusters", "--endpoint", "http://127.0.0.1:9", "--debug")


# ------------------------------------------------------------ as a process


def process(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ}
    return subprocess.run(
        [*FED, *words], env=env, capture_output=True, text=True, timeout=30, check=False
    )


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom federation.cli import main\n"
        "try:\n    main()\nfinally:\n"
        f"    print([n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "Commands:" in shown.stdout
    assert shown.stderr.strip() == "[]"


def test_help_starts_within_its_budget() -> None:
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        subprocess.run([*FED, "--help"], stdout=subprocess.DEVNULL, timeout=30, check=True)
        seconds.append(time.perf_counter() - started)
    assert statistics.median(seconds) <= 0.25


def test_a_real_command_imports_no_server_library(url: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    code = (
        "import sys\nfrom federation.cli import main\nmain()\n"
        "print([n for n in ('grpc', 'aiohttp', 'sqlalchemy', 'ray') if n in sys.modules])"
    )
    words = ["get", "clusters", "--endpoint", url, "--token-file", str(token)]
    shown = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert shown.stdout.splitlines()[-1] == "[]"


def test_the_exit_code_reaches_the_shell() -> None:
    refused = process("get", "clusters", FED_ENDPOINT="http://127.0.0.1:9")
    assert refused.returncode == 6
    assert "Traceback" not in refused.stderr
    assert process("nonsense").returncode == 2
    assert process("version").returncode == 0


def test_a_mistake_of_fed_itself_is_a_sentence_and_a_traceback_only_with_debug() -> None:
    code = (
        "import sys\nfrom federation.cli import main, root\n"
        "def broken(*_a, **_k): raise ZeroDivisionError('oh')\n"
        "root.fed.main = broken\nsys.exit(main())"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, "get"], capture_output=True, text=True, timeout=30, check=False
    )
    assert shown.returncode == 1
    assert "fed itself failed: ZeroDivisionError: oh" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_ctrl_c_ends_a_watch_at_once_with_130(
    plane: FakeControlPlane, url: str, tmp_path: Path
) -> None:
    plane.put("regions", "eu-west", {"location": {"latitude": 1.0, "longitude": 2.0}})
    token = tmp_path / "token"
    token.write_text("fed_admin_root_0123456789abcdef")
    words = ["get", "regions", "-w", "--endpoint", url, "--token-file", str(token), "-o", "json"]
    watching = subprocess.Popen(
        [*FED, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stdout
    assert watching.stderr
    first = json.loads(watching.stdout.readline())
    assert first["object"]["metadata"]["name"] == "eu-west"
    started = time.perf_counter()
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert time.perf_counter() - started < 5
    assert "Traceback" not in err


def test_a_reader_that_leaves_is_no_failure(
    plane: FakeControlPlane, url: str, tmp_path: Path
) -> None:
    for number in range(300):
        plane.put("regions", f"r{number}", {"location": {"latitude": 1.0, "longitude": 2.0}})
    token = tmp_path / "token"
    token.write_text("fed_admin_root_0123456789abcdef")
    words = ["get", "regions", "-o", "json", "--endpoint", url, "--token-file", str(token)]
    line = " ".join([*(f"'{word}'" for word in [*FED, *words]), "| head -1"])
    shown = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, timeout=30
    )
    assert shown.stdout == "{\n"
    assert shown.stderr == ""
    assert shown.returncode == 0
