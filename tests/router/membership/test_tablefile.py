from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from federation.contract.errors import Invalid
from federation.contract.rollout import CanaryRoute, SlowAbove
from federation.contract.types import Snapshot
from router.membership import tablefile
from tests.router.fakes import ROUTES, make_snapshot


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state" / "snapshot.json"
    snapshot = make_snapshot({"eu-1": "http://h:1", "us-1": "http://h:2"}, absent=["us-1"])
    assert tablefile.load(path) is None
    tablefile.save(path, snapshot)
    assert tablefile.load(path) == snapshot
    assert tablefile.load_written(path) == snapshot
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_written_member_by_member(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    for snapshot in (
        Snapshot(version=3),
        make_snapshot({f"eu-{n}": "http://h:1" for n in range(5)}),
    ):
        tablefile.save(path, snapshot)
        whole = msgspec.json.decode(msgspec.json.encode(snapshot))
        assert msgspec.json.decode(path.read_bytes()) == whole
        assert len(path.read_text().splitlines()) > len(snapshot.endpoints)


def test_a_rollout_goes_on_after_a_restart(tmp_path: Path) -> None:
    bounds = {"eu": SlowAbove(stable_ms=100.0, canary_ms=120.0)}
    canary = CanaryRoute(rollout="ro", version=1, weights={"eu": 25.0}, slow=bounds)
    snapshot = make_snapshot({"eu-1": "http://h:1"}, routes=(replace(ROUTES[0], canary=canary),))
    tablefile.save(tmp_path / "snapshot.json", snapshot)
    assert tablefile.load(tmp_path / "snapshot.json") == snapshot
    written = """
version: 1
models:
  - name: m
    default_version: 2
    canary: {rollout: try-3, version: 3, weights: {eu: 5}}
"""
    path = tmp_path / "table.yaml"
    path.write_text(written)
    (route,) = tablefile.load_written(path).models
    assert route.canary == CanaryRoute(rollout="try-3", version=3, weights={"eu": 5.0})


def test_a_newer_release_may_have_written_more(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    path.write_text('{"version": 7, "policies": [1], "endpoints": []}')
    loaded = tablefile.load(path)
    assert loaded is not None
    assert loaded.version == 7


@pytest.mark.parametrize("text", ["", "{", '{"version": "x"}', "[]"])
def test_a_broken_copy_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "snapshot.json"
    path.write_text(text)
    with pytest.raises(Invalid, match="Cannot read the snapshot"):
        tablefile.load(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 1\nmodel: []\n", "line 2: unknown key 'model'. Did you mean 'models'?"),
        ("version: 1\nendpoints:\n  - cluster: a\n    regoin: x\n", "unknown key 'regoin'"),
        ("version: one\n", "line 1: version: Expected"),
        ("version: 1\nmodels: [\n", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(Invalid) as caught:
        tablefile.load_written(path)
    assert words in caught.value.sentence()


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"Cannot read .*nothing"):
        tablefile.load_written(tmp_path / "nothing.yaml")
