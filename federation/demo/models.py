"""The demo's two models as packages, each in two versions that truly differ.

Input: the bundled weights of `shakespeare` and, for `filetype`, two wheels from the package index
(Magika's standard_v1 and standard_v3_3). Output: package directories that `fed model push` takes.
"""

import json
import shutil
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml

from federation.demo.fetch import fetch_wheel
from federation.demo.filetype import SPECS
from federation.demo.triton_install import default_cache

_DATA = Path(__file__).parent / "data"
_SAMPLE = b"#!/usr/bin/env python3\nimport sys\n\nprint('hello', *sys.argv[1:])\n"
_NOTICE = """\
The model and its labels are taken from the package {requirement} (Magika, by Google,
https://github.com/google/magika, Apache License 2.0), unchanged.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Magika:
    """Where one version of the file type model lies in its wheel."""

    requirement: str
    folder: str
    config: str
    about: str


_MAGIKA = {
    1: _Magika(
        requirement="magika==0.5.1",
        folder="magika/models/standard_v1",
        config="model_config.json",
        about="113 types, from the first, the middle and the last 512 bytes of a file",
    ),
    2: _Magika(
        requirement="magika==1.0.3",
        folder="magika/models/standard_v3_3",
        config="config.min.json",
        about="214 types, from the first and the last 1024 bytes of a file",
    ),
}
_UNITS = {1: 64, 2: 192}
_GOLDEN = {  # what each answers at temperature 0: beginnings and their continuations
    64: {"ROMEO:\n": "The so be th", "KING HENRY": " VI:\nAnd the", "My lord, ": "and the seed"},
    192: {"ROMEO:\n": "I will be th", "KING HENRY": " VI\n\nCORIOLA", "My lord, ": "and the sent"},
}
BITS_PER_CHARACTER = {1: 2.70, 2: 2.43}  # of the versions, held out: see the data's README


class Fault(StrEnum):
    """What can be wrong with a third version of the character model."""

    SLOW = "slow"  # ten times
    ERRORS = "errors"  # one request in twenty fails
    LOAD = "load"  # it cannot be loaded
    CRASH = "crash"  # its first request kills the engine
    WRONG = "wrong"  # its answers are not what its owner says they are


_FASTER = 10  # than the slow one
_PACE = 200  # characters a second


def build_packages(cache: Path | None, target: Path) -> list[tuple[str, int, Path]]:
    """Write all package directories below `target`: (model, version in order of push, directory).

    What is fetched is kept in `cache`; raises FetchFailed. The content is the same each time.
    """
    return [*build_filetype(cache, target), *build_shakespeare(target)]


def build_filetype(cache: Path | None, target: Path) -> list[tuple[str, int, Path]]:
    """Write the packages of the file type classifier; the labels lie in `labels.txt`, in order."""
    built = []
    for version, magika in _MAGIKA.items():
        directory = _empty(target / f"filetype-{version}")
        with zipfile.ZipFile(fetch_wheel(cache or default_cache(), magika.requirement)) as wheel:
            (directory / "model.onnx").write_bytes(wheel.read(f"{magika.folder}/model.onnx"))
            config = json.loads(wheel.read(f"{magika.folder}/{magika.config}"))
        labels = _labels(config)
        _write(directory / "labels.txt", "\n".join(labels) + "\n")
        _write(directory / "NOTICE.txt", _NOTICE.format(requirement=magika.requirement))
        _write_yaml(directory, _filetype_document(version, magika, len(labels)))
        built.append(("filetype", version, directory))
    return built


def build_shakespeare(target: Path) -> list[tuple[str, int, Path]]:
    """Write the packages of the character model; they need nothing but what is bundled."""
    built = []
    for version, units in _UNITS.items():
        directory = _empty(target / f"shakespeare-{version}")
        _write_shakespeare(directory, units)
        built.append(("shakespeare", version, directory))
    return built


def build_faulty(target: Path, fault: Fault) -> Path:
    """Write a package of the character model that has a fault; return its directory."""
    directory = _empty(target / f"shakespeare-{fault}")
    document = _write_shakespeare(directory, _UNITS[2])
    shutil.copyfile(_DATA / "shakespeare" / "faulty.py", directory / "faulty.py")
    parameters = {"fault": str(fault), "characters_per_second": _PACE}
    if fault is Fault.SLOW:
        parameters["characters_per_second"] = _PACE // _FASTER
    _write_yaml(directory, {**document, "file": "faulty.py", "parameters": parameters})
    return directory


def _write_shakespeare(directory: Path, units: int) -> dict[str, object]:
    """Write one version's files; return the document of its model.yaml."""
    source, document = _DATA / "shakespeare", _shakespeare_document(units)
    shutil.copyfile(source / "model.py", directory / "model.py")
    shutil.copyfile(source / f"char_gru_h{units}.npz", directory / "weights.npz")
    shutil.copyfile(source / "char_gru_vocab.json", directory / "vocab.json")
    lines = [
        json.dumps({"prompt": prompt, "max_tokens": len(text), "text": text})
        for prompt, text in _GOLDEN[units].items()
    ]
    _write(directory / "golden.jsonl", "\n".join(lines) + "\n")
    _write_yaml(directory, document)
    return document


def read_labels(directory: Path) -> list[str]:
    """Return the labels of a file type package, in the order of its scores."""
    return (directory / "labels.txt").read_text(encoding="utf-8").split()


def _labels(config: dict[str, object]) -> list[str]:
    known = config
    for key in ("train_dataset_info", "target_labels_info"):
        inner = known.get(key, known)
        known = inner if isinstance(inner, dict) else known
    labels = known["target_labels_space"]
    return [str(label) for label in labels] if isinstance(labels, list) else []


def _filetype_document(version: int, magika: _Magika, labels: int) -> dict[str, object]:
    spec = SPECS[version]
    return {
        "name": "filetype",
        "runtime": "onnx",
        "description": f"Tells the type of a file by its content: {magika.about}.",
        "inputs": [{"name": "bytes", "datatype": spec.datatype, "shape": [-1, spec.length]}],
        "outputs": [{"name": "target_label", "datatype": "FP32", "shape": [-1, labels]}],
        "warmup": {"bytes": list(_SAMPLE)},  # repeated until the tensor is full
        "labels": {"task": "classification", "source": magika.requirement},
    }


def _shakespeare_document(units: int) -> dict[str, object]:
    return {
        "name": "shakespeare",
        "runtime": "python",
        "protocol": "text",
        "description": f"Continues a text in the manner of Shakespeare: a GRU of {units} units,"
        " one character at a time.",
        "warmup": {"prompt": "ROMEO:"},
        "parameters": {"characters_per_second": _PACE},
        "golden": {"file": "golden.jsonl"},
        "labels": {"task": "text-generation", "units": str(units)},
    }


def _empty(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_yaml(directory: Path, document: dict[str, object]) -> None:
    text = yaml.safe_dump(document, sort_keys=False, width=96, default_flow_style=None)
    _write(directory / "model.yaml", text)
