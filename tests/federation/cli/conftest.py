"""What the tests of `fed` share: a control plane on a real socket, and a way to run commands."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from federation.cli.root import run
from federation.cli.session import Session
from tests.federation.cli.fake_control_plane import TOKEN, FakeControlPlane, serving


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


Fed = Callable[..., Result]


@pytest.fixture
def plane() -> FakeControlPlane:
    """The state behind `fed`'s control plane."""
    return FakeControlPlane()


@pytest.fixture
def url(plane: FakeControlPlane) -> Iterator[str]:
    """Where the control plane listens."""
    with serving(plane) as served:
        yield served


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting of the machine reaches the tests; returns the path of the file of contexts."""
    for name in ("FED_CONTEXT", "FED_ENDPOINT", "FED_TOKEN_FILE", "NO_COLOR", "_FED_COMPLETE"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config.yaml"
    monkeypatch.setenv("FED_CONFIG", str(config))
    return config


@pytest.fixture
def fed_alone(
    clean_environment: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Fed:
    """Run `fed` in this process, with no control plane set."""

    def call(*words: str, stdin: str = "") -> Result:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = run(list(words), Session())
        captured = capsys.readouterr()
        return Result(int(code), captured.out, captured.err)

    return call


@pytest.fixture
def fed(fed_alone: Fed, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fed:
    """Run `fed` in this process against the fake control plane."""
    token = tmp_path / "admin.token"
    token.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("FED_ENDPOINT", url)
    monkeypatch.setenv("FED_TOKEN_FILE", str(token))
    return fed_alone
