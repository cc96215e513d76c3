"""Flag beats environment beats file beats default; mistakes are told with the remedy."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from federation.contract.errors import Invalid
from federation.runtime.config import load_settings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A role under test."""

    name: str = setting(help="its name")
    port: int = setting(7400, help="where it listens")
    quick: bool = setting(False, help="hurry")
    peers: tuple[str, ...] = setting((), help="who it knows")


def load(*argv: str, **environ: str) -> Settings:
    return load_settings(Settings, prog="fed-x", argv=argv, environ=environ)


def test_defaults_and_required() -> None:
    assert load("--name", "a") == Settings(name="a")
    with pytest.raises(Invalid) as caught:
        load()
    assert caught.value.sentence() == "--name is needed. Or set FED_NAME."


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("name: file\nport: 1\nquick: true\npeers: [f]\n")
    assert load("--config", str(file)) == Settings(name="file", port=1, quick=True, peers=("f",))
    both = load("--config", str(file), FED_PORT="2", FED_PEERS="e, g")
    assert (both.port, both.peers) == (2, ("e", "g"))
    flags = load("--config", str(file), "--port", "3", "--no-quick", "--peers", "h", FED_PORT="2")
    assert (flags.port, flags.quick, flags.peers) == (3, False, ("h",))


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("name: file\n")
    assert load(FED_CONFIG_FILE=str(file)).name == "file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae: a\n", "x.yaml line 1: unknown key 'nmae'"),
        ("name: [\n", "not valid YAML"),
        ("name: a\nport: many\n", "Expected `int`"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(Invalid) as caught:
        load("--config", str(file))
    assert message in caught.value.sentence()


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(Invalid, match=r"cannot read /nonexistent\.yaml: No such file"):
        load("--config", "/nonexistent.yaml")


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--name", "--port", "--quick", "--no-quick", "--peers", "--config"):
        assert flag in text
