import json
from pathlib import Path

import pytest

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.test_packages import make_package


@pytest.fixture
def two_versions(fed: Fed, tmp_path: Path) -> Path:
    folder = make_package(tmp_path / "package")
    assert fed("model", "push", str(folder)).code == 0
    (folder / "vocabulary" / "labels.txt").rename(folder / "labels.txt")
    (folder / "model.onnx").write_bytes(b"xxno" * 1000)
    assert fed("model", "push", str(folder)).code == 0
    return folder


def test_files_and_regions_are_told(fed: Fed, plane: FakeControlPlane, two_versions: Path) -> None:
    held = [
        {"model": "filetype", "version": 1, "state": "warmed"},
        {"model": "gone", "version": 1, "state": "cached"},
        {"model": "filetype", "version": 2, "state": "pending"},
    ]
    plane.put("clusters", "eu-1", {"region": "eu"}, {"versions": held})
    plane.put("clusters", "us-1", {"region": "us"}, {"versions": []})
    told = fed("model", "diff", "filetype@1", "filetype")
    assert told.code == 0, told.err
    lines = [line.split() for line in told.out.splitlines()]
    assert ["labels.txt", "renamed", "4", "B", "0", "B", "vocabulary/labels.txt"] in lines
    assert ["model.onnx", "changed", "4.0", "kB", "4.0", "kB", "-"] in lines
    assert "model.yaml" not in told.out
    assert "4.0 kB of 4.2 kB are new, in 1 chunks" in told.out
    assert ["eu", "1", "4.0", "kB", "4.0", "kB", "4.0", "kB"] in lines
    assert ["us", "1", "4.2", "kB", "4.2", "kB", "4.2", "kB"] in lines
    assert "model.yaml" in fed("model", "diff", "filetype@1", "filetype@2", "--all").out
    shown = json.loads(fed("model", "diff", "filetype@1", "filetype", "-o", "json").out)
    assert shown["newBytes"] == 4000
    assert [r["region"] for r in shown["regions"]] == ["eu", "us"]
    assert shown["regions"][0]["fromOriginBytes"] == shown["regions"][0]["wireBytes"] == 4000


@pytest.mark.parametrize("words", [["filetype"], ["a@1", "2", "3"], ["a", "b", "c", "d"], []])
def test_two_versions_are_needed(fed: Fed, words: list[str]) -> None:
    assert fed("model", "diff", *words).code == 2


def test_a_model_and_two_versions_mean_the_same(fed: Fed, two_versions: Path) -> None:
    short = fed("model", "diff", "filetype", "1", "2")
    assert (short.code, short.out) == (0, fed("model", "diff", "filetype@1", "filetype@2").out)


def test_equal_versions_move_nothing_and_unknown_ones_are_told(
    fed: Fed, plane: FakeControlPlane, two_versions: Path
) -> None:
    assert "0 B of 4.2 kB are new" in fed("model", "diff", "filetype@2", "filetype").out
    assert fed("model", "diff", "filetype@1", "filetype@7").code == 3
    assert fed("model", "diff", "nothing@1", "filetype").code == 3
    assert fed("model", "diff", "a/b", "filetype").code == 1
