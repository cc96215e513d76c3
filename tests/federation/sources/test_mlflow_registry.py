"""Models of an MLflow registry, on a store in a folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.contract.errors import Invalid, NotFound
from federation.sources.base import Opened, Wanted
from federation.sources.mlflow_registry import open_mlflow
from federation.sources.uri import parse_source

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own libraries warn at import

FILES = {"model.yaml": b"name: ft\n", "w/a.bin": bytes(range(256)) * 100}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    held = mlflow.MlflowClient()
    held.create_registered_model("ft")
    yield held
    for name in [n for n in os.environ if n.startswith("MLFLOW_ENABLE")]:
        os.environ.pop(name)


def _version(client: Any, folder: Path, files: dict[str, bytes]) -> str:
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return str(client.create_model_version("ft", source=folder.as_uri()).version)


def _open(
    text: str, tmp_path: Path, wanted: Wanted | None = None
) -> tuple[Opened, dict[str, bytes]]:
    told: list[tuple[int, int, str]] = []
    with open_mlflow(
        parse_source(text),
        cache=tmp_path / "cache",
        progress=lambda *seen: told.append(seen),
        wanted=wanted or Wanted(),
    ) as opened:
        root = opened.directory
        files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert told[-1][0] == told[-1][1] == sum(map(len, files.values()))
    return opened, files


def test_an_alias_is_pinned_to_its_version(client: Any, tmp_path: Path) -> None:
    first = _version(client, tmp_path / "one", FILES)
    client.set_registered_model_alias("ft", "champion", first)
    opened, files = _open("mlflow://ft@champion", tmp_path)
    assert (opened.source, opened.revision) == ("mlflow://ft/1", "1")
    assert files == FILES
    assert not opened.directory.exists()
    second = _version(client, tmp_path / "two", FILES | {"model.yaml": b"2"})
    client.set_registered_model_alias("ft", "champion", second)
    moved, files = _open("mlflow://ft@champion", tmp_path)
    assert (moved.revision, files["model.yaml"]) == ("2", b"2")
    assert _open(opened.source, tmp_path)[1] == FILES


def test_a_failed_push_keeps_what_was_fetched(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _version(client, tmp_path / "one", FILES)
    with pytest.raises(NotFound), open_mlflow(
        parse_source("mlflow://ft/1"),
        cache=tmp_path / "cache",
        progress=lambda *_: None,
        wanted=Wanted(),
    ) as opened:  # fmt: skip
        raise NotFound("the push failed.")
    assert (opened.directory / "w/a.bin").exists()
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    fetched: list[str] = []
    whole: Any = LocalArtifactRepository.download_artifacts

    def counted(self: Any, artifact_path: str, dst_path: str | None = None) -> str:
        fetched.append(artifact_path)
        return str(whole(self, artifact_path, dst_path))

    monkeypatch.setattr(LocalArtifactRepository, "download_artifacts", counted)
    (opened.directory / "model.yaml").unlink()
    (opened.directory / "left-over").write_bytes(b"x")
    assert _open("mlflow://ft/1", tmp_path)[1] == FILES
    assert fetched == ["model.yaml"]


def test_files_can_be_chosen(client: Any, tmp_path: Path) -> None:
    _version(client, tmp_path / "one", FILES)
    wanted = Wanted(include=("*.yaml",))
    assert list(_open("mlflow://ft/1", tmp_path, wanted)[1]) == ["model.yaml"]


def test_names_that_lead_out_are_refused(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.entities import FileInfo
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    _version(client, tmp_path / "one", FILES)
    info: Any = FileInfo
    for name, folder in (("../../x", False), ("/etc/passwd", False), ("..", True)):
        listed = [info(name, folder, 1)]
        monkeypatch.setattr(LocalArtifactRepository, "list_artifacts", lambda *_, to=listed: to)
        with pytest.raises(Invalid) as caught:
            _open("mlflow://ft/1", tmp_path)
        assert caught.value.reason == "unsafe-path"
    again = [info("a", True, 0)]
    monkeypatch.setattr(LocalArtifactRepository, "list_artifacts", lambda *_: again)
    with pytest.raises(Invalid, match="in the folder"):  # a folder that holds itself
        _open("mlflow://ft/1", tmp_path)


@pytest.mark.parametrize("text", ["mlflow://ft@nope", "mlflow://nix/1", "mlflow://ft/9"])
def test_what_is_not_there(client: Any, tmp_path: Path, text: str) -> None:
    with pytest.raises(NotFound):
        _open(text, tmp_path)


@pytest.mark.parametrize(
    "text", ["mlflow://ft", "mlflow://ft/champion", "mlflow://ft@", "mlflow://a/b@c"]
)
def test_malformed_references_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid, match="malformed"):
        _open(text, tmp_path)
