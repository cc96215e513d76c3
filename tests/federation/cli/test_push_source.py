"""Packages from a registry on this machine, pushed by `fed`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.cli.push_source import SourceChoice, cache_folder, opened
from federation.contract.manifest import chunks_of
from tests.fakes.hubs import FakeRegistry
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.cli.test_packages import make_package


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    monkeypatch.setenv("FED_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with FakeRegistry("org/filetype") as server:
        assert isinstance(server, FakeRegistry)
        yield server


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    root = make_package(tmp_path / "package")
    found = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def _uri(server: FakeRegistry, reference: str = ":1") -> str:
    return f"oci://{server.host}/{server.name}{reference}"


def test_a_tag_is_pushed_as_its_digest_which_is_shown(
    fed: Fed, plane: FakeControlPlane, registry: FakeRegistry, files: dict[str, bytes]
) -> None:
    digest = registry.push("1", files)
    told = fed("model", "push", _uri(registry))
    assert told.code == 0, told.err
    assert plane.store.pushed[0]["source"] == _uri(registry, f":1@{digest}")
    assert digest in told.err
    registry.push("1", files | {"labels.txt": b"other"})
    assert "version 2" in fed("model", "push", _uri(registry)).out
    assert plane.store.pushed[1]["source"] != plane.store.pushed[0]["source"]


def test_model_yaml_may_come_from_elsewhere(
    fed: Fed,
    plane: FakeControlPlane,
    registry: FakeRegistry,
    files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.yaml").write_bytes(files.pop("model.yaml"))
    registry.push("1", files | {"pytorch_model.bin": b"x"})
    refused = fed("model", "push", _uri(registry))
    assert refused.code == 3
    assert "--package FILE" in refused.err
    told = fed(
        *("model", "push", _uri(registry), "--package", str(tmp_path / "mine.yaml")),
        *("--exclude", "*.bin", "--name", "other"),
    )
    assert told.code == 0, told.err
    assert told.out.startswith("model/other version 1")
    paths = {entry["path"] for entry in plane.store.pushed[0]["manifest"]["files"]}
    assert paths == {*files, "model.yaml"}


def test_what_was_fetched_can_be_read_chunk_by_chunk(
    registry: FakeRegistry, files: dict[str, bytes]
) -> None:
    registry.push("1", files)
    with opened(SourceChoice(uri=_uri(registry)), None) as (package, source):
        assert source.startswith(_uri(registry, ":1@sha256:"))
        for entry in package.manifest.files:
            data = b"".join(package.chunk(c.digest) for c in chunks_of(entry))
            assert data == files[entry.path]


def test_a_bad_source_is_a_sentence(fed: Fed) -> None:
    refused = fed("model", "push", "huggingface://org/model")
    assert refused.code == 1
    assert "Did you mean hf://org/model?" in refused.err


def test_where_the_cache_is() -> None:
    assert cache_folder({"FED_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a/sources")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/fed/sources")
    assert cache_folder({}) == Path("~/.cache/fed/sources").expanduser()
