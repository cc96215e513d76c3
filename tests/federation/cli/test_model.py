import json
from pathlib import Path

import pytest

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.test_push import MODEL_YAML


@pytest.fixture
def package(tmp_path: Path) -> str:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.yaml").write_text(MODEL_YAML)
    (folder / "model.onnx").write_bytes(b"onnx")
    return str(folder)


def test_push_tells_version_and_digest(fed: Fed, package: str) -> None:
    first = fed("model", "push", package)
    assert first.code == 0
    assert first.out.startswith("model/filetype version 1 (digest ")
    assert first.out.endswith(") created\n")
    assert first.err == ""
    assert fed("model", "push", package).out == first.out.replace("created", "exists")
    shown = json.loads(fed("model", "push", package, "-o", "json").out)
    assert (shown["version"], shown["created"]) == (1, False)
    assert fed("model", "push", package, "-o", "name").out == "model/filetype\n"
    assert fed("model", "push", package, "--name", "other").out.startswith("model/other version 1")


def test_a_push_that_is_refused_tells_why(
    fed: Fed, plane: FakeControlPlane, package: str, tmp_path: Path
) -> None:
    plane.max_blob = 1
    refused = fed("model", "push", package)
    assert refused.code == 1
    assert "longer than the limit" in refused.err
    assert fed("model", "push", str(tmp_path / "absent")).code == 3


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
