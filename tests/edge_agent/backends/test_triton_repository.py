import dataclasses
from pathlib import Path

import pytest

from edge_agent.backends.base import BackendError, StagedVersion
from edge_agent.backends.triton_repository import make_config, sweep, write_model
from federation.contract.capacity import Resources
from federation.contract.package import TensorSpec
from tests.engines.packages import add_package, count_package, stage


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def with_shapes(staged: StagedVersion, shape: tuple[int, ...]) -> StagedVersion:
    tensor = TensorSpec(name='odd"name', datatype="INT64", shape=shape)
    package = dataclasses.replace(staged.package, inputs=(tensor,), outputs=(tensor,))
    return dataclasses.replace(staged, package=package)


def test_a_batchable_model_is_batched(tmp_path: Path) -> None:
    config = make_config(add_package(tmp_path, version=3))
    assert "max_batch_size: 64" in config
    assert "dynamic_batching" in config
    assert '{ name: "words" data_type: TYPE_STRING dims: [ 1 ] }' in config
    assert "versions: [ 3 ]" in config


def test_another_model_keeps_its_shape(tmp_path: Path) -> None:
    config = make_config(with_shapes(add_package(tmp_path), (1, -1)))
    assert "max_batch_size: 0" in config
    assert "dynamic_batching" not in config
    assert '{ name: "odd\\"name" data_type: TYPE_INT64 dims: [ 1, -1 ] }' in config
    scalar = make_config(with_shapes(add_package(tmp_path / "b"), ()))
    assert "dims: [ 1 ] reshape { shape: [ ] }" in scalar


def test_replicas_and_gpus_make_the_instance_group(tmp_path: Path) -> None:
    staged = dataclasses.replace(add_package(tmp_path), replicas=3)
    assert "kind: KIND_CPU count: 3" in make_config(staged)
    package = dataclasses.replace(staged.package, resources=Resources(gpus=1))
    assert "kind: KIND_GPU count: 3" in make_config(dataclasses.replace(staged, package=package))


def test_text_is_one_decoupled_model(tmp_path: Path) -> None:
    config = make_config(count_package(tmp_path))
    assert "decoupled: true" in config
    assert 'key: "fed-protocol" value { string_value: "text" }' in config


def test_a_model_is_replaced_whole(repository: Path, tmp_path: Path) -> None:
    staged = add_package(tmp_path)
    write_model(repository, staged)
    home = repository / "add--v1" / "1"
    (home / "package" / "left-over").touch()
    write_model(repository, staged)
    assert sorted(p.name for p in repository.iterdir()) == ["add--v1"]
    assert sorted(p.name for p in (home / "package").iterdir()) == [
        "model.py",
        "model.yaml",
        "package.json",
    ]
    assert sorted(p.name for p in home.iterdir()) == ["edge_agent", "model.py", "package"]


def test_what_a_crash_left_is_swept(repository: Path) -> None:
    (repository / ".fed-staging-x" / "add--v1").mkdir(parents=True)
    (repository / "other").mkdir()
    sweep(repository)
    assert [p.name for p in repository.iterdir()] == ["other"]
    sweep(repository / "nowhere")


def triton_folder(folder: Path) -> Path:
    for version in (2, 10):
        (folder / str(version)).mkdir(parents=True)
        (folder / str(version) / "model.plan").write_text(str(version))
    (folder / "labels.txt").write_text("a")
    (folder / "config.pbtxt").write_text('name: "old"\nplatform: "tensorrt_plan"\n')
    return folder


def test_of_a_triton_folder_the_newest_version_becomes_ours(
    repository: Path, tmp_path: Path
) -> None:
    staged = stage(triton_folder(tmp_path / "p"), {"name": "own", "runtime": "triton"}, version=7)
    write_model(repository, staged)
    model = repository / "own--v7"
    assert sorted(p.name for p in model.iterdir()) == ["7", "config.pbtxt", "labels.txt"]
    assert (model / "7" / "model.plan").read_text() == "10"
    config = (model / "config.pbtxt").read_text()
    assert config.startswith('name: "own--v7"\n')
    assert 'platform: "tensorrt_plan"' in config
    assert '"old"' not in config
    assert staged.digest in config


def test_a_folder_without_versions_is_refused(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    staged = stage(tmp_path / "p", {"name": "own", "runtime": "triton"})
    with pytest.raises(BackendError, match="no numeric version folder"):
        write_model(repository, staged)
    assert list(repository.iterdir()) == []
