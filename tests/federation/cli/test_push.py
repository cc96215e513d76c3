import io
from pathlib import Path

import pytest

from federation.cli.client import ApiClient
from federation.cli.push import push_package, read_package
from federation.contract.errors import Invalid, NotFound
from federation.contract.package import parse_package
from tests.federation.cli.fake_control_plane import TOKEN, FakeControlPlane

MODEL_YAML = """\
# A small model.
name: filetype
runtime: onnx
inputs: [{name: bytes, datatype: INT32, shape: [-1, 8]}]
outputs: [{name: label, datatype: FP32, shape: [-1, 2]}]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "vocabulary").mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL_YAML)
    (folder / "model.onnx").write_bytes(b"onnx" * 1000)
    (folder / "vocabulary" / "labels.txt").write_text("a\nb\n")
    return folder


def push(url: str, directory: Path, name: str | None = None) -> dict[str, object]:
    with read_package(directory, name) as package, ApiClient(url, token=TOKEN) as client:
        return push_package(client, package)


def test_all_files_are_sent_once(url: str, plane: FakeControlPlane, directory: Path) -> None:
    first = push(url, directory)
    assert (first["model"], first["version"], first["created"]) == ("filetype", 1, True)
    assert sorted(plane.blobs.values()) == sorted([b"onnx" * 1000, b"a\nb\n", MODEL_YAML.encode()])
    again = push(url, directory)
    assert (again["version"], again["created"]) == (1, False)
    assert sum(m.startswith("PUT /api/v1/blobs") for m in plane.methods) == 3
    (directory / "vocabulary" / "labels.txt").write_text("c\n")
    assert push(url, directory)["version"] == 2
    assert sum(m.startswith("PUT /api/v1/blobs") for m in plane.methods) == 4


def test_two_files_with_the_same_bytes_are_sent_once(
    url: str, plane: FakeControlPlane, directory: Path
) -> None:
    (directory / "copy.txt").write_text("a\nb\n")
    push(url, directory)
    assert len(plane.blobs) == 3


def test_another_name_is_written_into_the_package(
    url: str, plane: FakeControlPlane, directory: Path
) -> None:
    assert push(url, directory, "other.name")["model"] == "other.name"
    texts = [data.decode() for data in plane.blobs.values() if b"runtime" in data]
    assert len(texts) == 1
    assert parse_package(texts[0]).name == "other.name"
    assert texts[0].startswith("# A small model.\nname: other.name\n")
    assert (directory / "model.yaml").read_text() == MODEL_YAML
    (directory / "model.yaml").write_text(MODEL_YAML.replace("name: filetype", '"name": filetype'))
    with pytest.raises(Invalid, match="cannot change the name"):
        push(url, directory, "other")
    with pytest.raises(Invalid, match="cannot name a model"):
        push(url, directory, "../other")


def test_what_is_no_package_is_told(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no directory"), read_package(tmp_path / "absent", None):
        pass
    with pytest.raises(NotFound, match=r"no model\.yaml"), read_package(tmp_path, None):
        pass
    (directory / "model.yaml").write_text(MODEL_YAML.replace("runtime", "runtine"))
    told = pytest.raises(Invalid, match=r"model\.yaml line 3: unknown key 'runtine'")
    with told, read_package(directory, None):
        pass
    (directory / "model.yaml").write_bytes(b"\xff")
    with pytest.raises(Invalid, match="not UTF-8"), read_package(directory, None):
        pass


def test_a_missing_file_and_a_link_are_told(directory: Path) -> None:
    (directory / "link").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="link"), read_package(directory, None):
        pass
    (directory / "link").unlink()
    (directory / "model.onnx").unlink()
    told = pytest.raises(Invalid, match=r"'model\.onnx', which is not in the package")
    with told, read_package(directory, None):
        pass


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals(
    url: str, plane: FakeControlPlane, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = io.StringIO()
    monkeypatch.setattr("sys.stderr", silent)
    push(url, directory)
    assert silent.getvalue() == ""
    plane.blobs.clear()
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    push(url, directory)
    assert "4.1 kB of 4.1 kB" in terminal.getvalue().replace("4.2", "4.1")
    assert "\n" not in terminal.getvalue()
