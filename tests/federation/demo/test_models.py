import importlib.util
from pathlib import Path
from typing import Any

import pytest

from edge_agent.serving.models import load_model
from edge_agent.serving.package import ServedPackage
from federation.chunking.scan import scan_directory
from federation.contract.golden import parse_golden, wrong_text
from federation.contract.manifest import manifest_digest
from federation.contract.package import parse_package
from federation.contract.types import ModelProtocol, Runtime
from federation.demo.filetype import SPECS
from federation.demo.models import (
    Fault,
    build_faulty,
    build_filetype,
    build_packages,
    build_shakespeare,
    read_labels,
)


def test_both_models_come_in_two_versions_that_differ(tmp_path: Path) -> None:
    built = build_packages(None, tmp_path)
    assert [(model, version) for model, version, _ in built] == [
        ("filetype", 1),
        ("filetype", 2),
        ("shakespeare", 1),
        ("shakespeare", 2),
    ]
    digests = {manifest_digest(scan_directory(folder, model)) for model, _, folder in built}
    assert len(digests) == 4
    for model, _, folder in built:
        package = parse_package((folder / "model.yaml").read_text())
        assert package.name == model
        assert package.description
        assert package.warmup


def test_building_again_gives_the_same_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_packages(None, tmp_path / name)
        build_packages(None, tmp_path / name)  # over what is there
    digests = [
        [manifest_digest(scan_directory(f, "m")) for f in sorted((tmp_path / name).iterdir())]
        for name in ("a", "b")
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("version", "labels"), [(1, 113), (2, 214)])
def test_the_classifier_s_signature_is_that_of_its_version(
    tmp_path: Path, version: int, labels: int
) -> None:
    folder = build_filetype(None, tmp_path)[version - 1][2]
    package = parse_package((folder / "model.yaml").read_text())
    assert package.runtime is Runtime.ONNX
    assert package.inputs[0].shape == (-1, SPECS[version].length)
    assert package.inputs[0].datatype == SPECS[version].datatype
    assert package.outputs[0].shape == (-1, labels)
    assert len(read_labels(folder)) == labels
    assert "Apache" in (folder / "NOTICE.txt").read_text()


def load_shakespeare(folder: Path, **parameters: Any) -> Any:
    spec = importlib.util.spec_from_file_location("shakespeare_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(str(folder), parameters)


@pytest.mark.parametrize("index", [0, 1])
def test_the_character_model_writes_and_repeats_itself_by_seed(tmp_path: Path, index: int) -> None:
    folder = build_shakespeare(tmp_path)[index][2]
    package = parse_package((folder / "model.yaml").read_text())
    assert (package.runtime, package.protocol) == (Runtime.PYTHON, ModelProtocol.TEXT)
    model = load_shakespeare(folder)

    def write(prompt: str, seed: int | None, temperature: float = 0.7, size: int = 80) -> str:
        pieces = model.generate(prompt, max_tokens=size, temperature=temperature, seed=seed)
        return "".join(pieces)

    assert write("ROMEO:", 1) == write("ROMEO:", 1)
    assert write("ROMEO:", 1) != write("ROMEO:", 2)
    assert write("ROMEO:", None, temperature=0) == write("ROMEO:", None, temperature=0)
    assert len(write("", 1)) == len(write("héllo \x00", 1)) == 80
    english = write("First Citizen:\n", 3, size=600)
    assert 0.1 < english.count(" ") / len(english) < 0.3
    assert english.count("the") + english.count("and") + english.count("you") >= 3
    assert model.count_tokens("abc") == 3


def test_the_character_model_can_be_slowed_down(tmp_path: Path) -> None:
    import time

    model = load_shakespeare(build_shakespeare(tmp_path)[0][2], characters_per_second=100)
    started = time.monotonic()
    assert len(list(model.generate("a", max_tokens=10, temperature=1.0, seed=1))) == 10
    assert time.monotonic() - started > 0.09


@pytest.mark.parametrize("version", [1, 2])
def test_the_golden_inputs_are_what_a_version_answers(tmp_path: Path, version: int) -> None:
    folder = build_shakespeare(tmp_path)[version - 1][2]
    package = parse_package((folder / "model.yaml").read_text())
    assert package.golden is not None
    golden = parse_golden((folder / package.golden.file).read_text(), package, source="golden")
    model = load_shakespeare(folder)
    assert len(golden) == 3
    for each in golden:
        pieces = model.generate(each.prompt, max_tokens=each.max_tokens, temperature=0.0, seed=None)
        assert wrong_text(each, "".join(pieces)) == ""


@pytest.mark.parametrize("fault", Fault)
def test_a_faulty_version_is_a_whole_package(tmp_path: Path, fault: Fault) -> None:
    folder = build_faulty(tmp_path, fault)
    package = parse_package((folder / "model.yaml").read_text())
    assert package.file == "faulty.py"
    assert package.parameters["fault"] == fault
    assert (folder / package.file).is_file()
    assert package.golden is not None


def _faulty(tmp_path: Path, fault: Fault) -> Any:
    folder = build_faulty(tmp_path, fault)
    document = parse_package((folder / "model.yaml").read_text())
    package = ServedPackage(
        name="shakespeare",
        version=3,
        digest="d",
        runtime="python",
        protocol="text",
        file=document.file,
        parameters={**document.parameters, "characters_per_second": 0},
    )
    return load_model(folder, package)


def _answer(model: Any, prompt: str, tokens: int = 8) -> str:
    return "".join(model.generate(prompt, max_tokens=tokens, temperature=0.0, seed=None))


def test_what_the_faults_do(tmp_path: Path) -> None:
    assert _answer(_faulty(tmp_path, Fault.SLOW), "ROMEO:\n") == "I will b"
    assert _answer(_faulty(tmp_path, Fault.WRONG), "ROMEO:\n") == "i WILL B"
    with pytest.raises(RuntimeError, match="architecture"):
        _faulty(tmp_path, Fault.LOAD)
    model, failed = _faulty(tmp_path, Fault.ERRORS), 0
    for _ in range(200):
        try:
            _answer(model, "R", tokens=1)
        except RuntimeError:
            failed += 1
    assert 2 <= failed <= 25
