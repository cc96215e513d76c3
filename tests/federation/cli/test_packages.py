from pathlib import Path

import pytest
from blake3 import blake3

from federation.cli.packages import Package, read_package
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.manifest import chunks_of, distinct_chunks
from federation.contract.package import parse_package

MODEL_YAML = """\
# A small model.
name: filetype
runtime: onnx
inputs: [{name: bytes, datatype: INT32, shape: [-1, 8]}]
outputs: [{name: label, datatype: FP32, shape: [-1, 2]}]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_package(tmp_path / "package")


def make_package(folder: Path) -> Path:
    """Write a small package."""
    (folder / "vocabulary").mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL_YAML)
    (folder / "model.onnx").write_bytes(b"onnx" * 1000)
    (folder / "vocabulary" / "labels.txt").write_text("a\nb\n")
    return folder


def content(package: Package, path: str) -> bytes:
    entry = next(e for e in package.manifest.files if e.path == path)
    return b"".join(package.chunk(chunk.digest) for chunk in chunks_of(entry))


def test_a_package_is_read_with_all_its_chunks(directory: Path) -> None:
    with read_package(directory) as package:
        paths = [entry.path for entry in package.manifest.files]
        assert paths == ["model.onnx", "model.yaml", "vocabulary/labels.txt"]
        assert (package.manifest.model, package.carries_code) == ("filetype", False)
        assert content(package, "model.onnx") == b"onnx" * 1000
        assert all(package.width(digest) == 0 for digest in distinct_chunks(package.manifest))
    with read_package(directory, "filetype") as again:
        assert again.manifest == package.manifest


def test_another_name_is_written_into_the_package(directory: Path) -> None:
    with read_package(directory, "other.name") as package:
        text = content(package, "model.yaml").decode()
        assert text == package.text
        assert parse_package(text).name == package.manifest.model == "other.name"
        assert text.startswith("# A small model.\nname: other.name\n")
        assert content(package, "model.onnx") == b"onnx" * 1000
        assert len(package.manifest.files) == 3
    assert (directory / "model.yaml").read_text() == MODEL_YAML
    (directory / "model.yaml").write_text(MODEL_YAML.replace("name: filetype", '"name": filetype'))
    with pytest.raises(Invalid, match="cannot change the name"), read_package(directory, "other"):
        pass
    with pytest.raises(Invalid, match="cannot name"), read_package(directory, "../other"):
        pass


def test_files_may_lie_elsewhere(directory: Path, tmp_path: Path) -> None:
    (directory / "model.yaml").unlink()
    head, labels = tmp_path / "head.yaml", tmp_path / "labels"
    head.write_text(MODEL_YAML)
    labels.write_text("x\n")
    elsewhere = {"model.yaml": head, "vocabulary/labels.txt": labels, "more/notes.txt": labels}
    with read_package(directory, elsewhere=elsewhere) as package:
        assert content(package, "model.yaml") == MODEL_YAML.encode()
        assert content(package, "vocabulary/labels.txt") == b"x\n"
        assert content(package, "more/notes.txt") == b"x\n"
        assert len(package.manifest.files) == 4


def test_what_is_no_package_is_told(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no directory"), read_package(tmp_path / "absent"):
        pass
    with pytest.raises(NotFound, match=r"no model\.yaml"), read_package(tmp_path):
        pass
    (directory / "model.yaml").write_text(MODEL_YAML.replace("runtime", "runtine"))
    told = pytest.raises(Invalid, match=r"model\.yaml line 3: unknown key 'runtine'")
    with told, read_package(directory):
        pass
    (directory / "model.yaml").write_bytes(b"\xff")
    with pytest.raises(Invalid, match="not UTF-8"), read_package(directory):
        pass


def test_a_missing_file_and_a_link_are_told(directory: Path) -> None:
    (directory / "link").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="link"), read_package(directory):
        pass
    (directory / "link").unlink()
    (directory / "model.onnx").rename(directory / "modle.onnx")
    told = pytest.raises(Invalid, match=r"'model\.onnx', which is not in the package")
    with told as refusal, read_package(directory):
        pass
    assert "'modle.onnx'" in refusal.value.hint


def test_code_has_to_be_declared(directory: Path) -> None:
    (directory / "weights.pkl").write_bytes(b"x")
    with pytest.raises(Invalid, match="pickle"), read_package(directory):
        pass
    (directory / "model.yaml").write_text(MODEL_YAML + "formats: [pkl]\n")
    with read_package(directory) as package:
        assert package.carries_code


def test_a_file_that_changes_after_it_was_read_is_refused(directory: Path) -> None:
    with read_package(directory) as package:
        (directory / "model.onnx").write_bytes(b"onxx" * 1000)
        digest = blake3(b"onnx" * 1000).digest()
        with pytest.raises(Conflict, match="changed"):
            package.chunk(digest)
