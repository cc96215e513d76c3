from pathlib import Path

import pytest

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.test_packages import MODEL_YAML


@pytest.fixture
def package(tmp_path: Path) -> str:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.yaml").write_text(MODEL_YAML)
    (folder / "model.onnx").write_bytes(b"onnx")
    return str(folder)


def test_list_is_get(fed: Fed, package: str) -> None:
    fed("model", "push", package)
    assert fed("model", "list").out.splitlines()[1].split()[:3] == ["filetype", "1", "1"]


def test_aliases_move_and_go(fed: Fed, plane: FakeControlPlane, package: str) -> None:
    fed("model", "push", package)
    words = ("model", "alias", "filetype", "champion")
    assert fed(*words, "1").out == "model/filetype alias champion is version 1\n"
    assert plane.objects["models"]["filetype"]["spec"]["aliases"] == {"champion": 1}
    assert fed(*words, "--remove").out == "model/filetype alias champion removed\n"
    assert plane.objects["models"]["filetype"]["spec"]["aliases"] == {}
    assert fed(*words, "--remove").code == 3


@pytest.mark.parametrize("words", [[], ["1", "--remove"], ["0"], ["one"]])
def test_an_alias_needs_a_version_or_remove(fed: Fed, words: list[str]) -> None:
    assert fed("model", "alias", "filetype", "champion", *words).code == 2


def test_bad_names_are_refused_before_anything_is_sent(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("model", "alias", "a/b", "champion", "1").code == 1
    assert fed("model", "alias", "filetype", "Champion", "1").code == 1
    assert plane.requests == []
