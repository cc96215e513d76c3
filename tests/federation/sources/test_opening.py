"""One call for all sources."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

from federation.contract.errors import Invalid, NotFound
from federation.runtime.clock import SystemClock
from federation.sources.base import Wanted
from federation.sources.opening import open_source
from tests.fakes.hubs import FakeRegistry


def test_a_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("name: x\n")
    for text in (str(tmp_path), tmp_path.as_uri()):
        with open_source(text, cache=tmp_path / "cache") as opened:
            assert opened.directory == tmp_path
            assert opened.source == tmp_path.as_uri()
            assert opened.revision == ""
    assert not (tmp_path / "cache").exists()
    assert (tmp_path / "model.yaml").exists()


def test_a_model_yaml_from_elsewhere(tmp_path: Path, registry: FakeRegistry) -> None:
    (tmp_path / "mine.yaml").write_text("name: x\n")
    registry.push("1", {"a.onnx": b"1"})
    for text in (str(tmp_path), f"oci://{registry.host}/{registry.name}:1"):
        with open_source(
            text, cache=tmp_path / "cache", package_file=tmp_path / "mine.yaml"
        ) as opened:
            assert opened.extra_files == {"model.yaml": tmp_path / "mine.yaml"}
    with pytest.raises(NotFound, match="no file"), open_source(
        str(tmp_path), cache=tmp_path, package_file=tmp_path / "gone.yaml"
    ):  # fmt: skip
        pass


def test_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, says in (("file", "is a file"), ("gone", "does not exist")):
        with pytest.raises(NotFound, match=says), open_source(
            str(tmp_path / name), cache=tmp_path
        ):  # fmt: skip
            pass
    with pytest.raises(Invalid, match="cannot be chosen"), open_source(
        str(tmp_path), cache=tmp_path, wanted=Wanted(include=("*.onnx",))
    ):  # fmt: skip
        pass


def test_the_cache_forgets_after_a_week(tmp_path: Path, registry: FakeRegistry) -> None:
    class Later(SystemClock):
        def utc(self):  # type: ignore[no-untyped-def]
            return super().utc() + timedelta(days=8)

    registry.push("1", {"a.onnx": b"1"})
    registry.push("2", {"b.onnx": b"2"})
    uri = f"oci://{registry.host}/{registry.name}"
    (tmp_path / "views" / "left-by-a-crash").mkdir(parents=True)
    with open_source(f"{uri}:1", cache=tmp_path):
        pass
    assert (tmp_path / "views" / "left-by-a-crash").exists()
    with open_source(f"{uri}:2", cache=tmp_path, clock=Later()):
        pass
    names = [p for p in (tmp_path / "blobs").iterdir() if not p.suffix]
    assert [p.read_bytes() for p in names] == [b"2"]
    assert not (tmp_path / "views" / "left-by-a-crash").exists()


def test_every_scheme_is_opened(tmp_path: Path) -> None:
    for text in ("s3://a b", "hf://a/b/c", "oci://x", "mlflow://x", "gs://", "az://?"):
        with pytest.raises(Invalid), open_source(text, cache=tmp_path):
            pass


@pytest.mark.parametrize(
    ("uri", "module", "extra"),
    [
        ("s3://bucket/x", "obstore", "bucket"),
        ("hf://org/model", "huggingface_hub", "hf"),
        ("mlflow://name/1", "mlflow", "mlflow"),
    ],
)
def test_a_missing_extra_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Invalid) as caught, open_source(uri, cache=tmp_path):
        pass
    said = f'Install it with: pip install "inference-federation[{extra}]"'
    assert caught.value.sentence().endswith(said)
