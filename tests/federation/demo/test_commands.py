import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from federation.contract.errors import FederationError
from federation.demo.commands import demo
from federation.demo.control import NoDemo


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.parametrize("name", [None, *demo.commands])
def test_every_command_has_help_with_an_example(name: str | None) -> None:
    result = CliRunner().invoke(demo, [name, "--help"] if name else ["--help"])
    assert result.exit_code == 0
    assert re.search(r"Example:\n +(eval \"\$\()?fed demo", result.output)


@pytest.mark.parametrize(
    "words",
    [["kill", "eu-west"], ["restore", "x"], ["status"], ["down"], ["env"], ["load"], ["cut", "x"]],
)
def test_without_a_demo_each_command_says_so(words: list[str]) -> None:
    result = CliRunner().invoke(demo, words)
    assert isinstance(result.exception, NoDemo)


@pytest.mark.parametrize("engines", ["vllm=2", "triton=9"])
def test_engines_that_make_no_sense_end_before_anything_starts(
    engines: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(demo, ["--engines", engines])
    assert isinstance(result.exception, FederationError)
    assert list(tmp_path.iterdir()) == []


def test_a_rate_of_nothing_is_refused() -> None:
    result = CliRunner().invoke(demo, ["load", "--rate", "0"])
    assert result.exit_code == click.UsageError.exit_code
