"""Small model packages for tests of engines, written into a folder."""

from pathlib import Path

import pytest
import yaml

from edge_agent.backends.base import StagedVersion
from federation.chunking.scan import scan_directory
from federation.contract.manifest import manifest_digest
from federation.contract.package import parse_package
from federation.demo.models import build_filetype

ADD_MODEL = """
import numpy as np

class Model:
    def __init__(self, directory, parameters):
        self.term = parameters.get("term", 1)

    def infer(self, inputs):
        if (inputs["x"] == 666).any():
            raise RuntimeError("this number is refused")
        words = np.array([w.upper() for w in inputs["words"].flat], dtype=object)
        return {
            "y": inputs["x"] + np.float32(self.term),
            "upper": words.reshape(inputs["words"].shape),
        }
"""

COUNT_MODEL = '''
import time
from pathlib import Path

class Model:
    """Says numbers; notes each one in a file, so that a test sees when it stops."""

    def __init__(self, directory, parameters):
        self.notes = parameters["notes"]
        self.pause_s = parameters.get("pause_s", 0.0)

    def count_tokens(self, text):
        return len(text.split())

    def generate(self, prompt, *, max_tokens, temperature, seed):
        if prompt == "fail":
            raise RuntimeError("told to fail")
        for number in range(max_tokens):
            time.sleep(self.pause_s)
            if prompt == "fail later" and number == 2:
                raise RuntimeError("told to fail")
            with open(self.notes, "a") as notes:
                notes.write(f"{number}\\n")
            yield f"{number} "
'''


def stage(directory: Path, document: dict[str, object], *, version: int = 1) -> StagedVersion:
    """Write model.yaml into a package folder and describe it as the agent's worker would."""
    (directory / "model.yaml").write_text(yaml.safe_dump(document))
    package = parse_package((directory / "model.yaml").read_text())
    digest = manifest_digest(scan_directory(directory, package.name))
    return StagedVersion(
        model=package.name, version=version, digest=digest, directory=directory, package=package
    )


def add_package(folder: Path, *, version: int = 1, code: str = ADD_MODEL) -> StagedVersion:
    """A tensor model in Python: y = x + version, and words in upper case."""
    directory = folder / f"add-{version}"
    directory.mkdir(parents=True)
    (directory / "model.py").write_text(code)
    document: dict[str, object] = {
        "name": "add",
        "runtime": "python",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "words", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "upper", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "warmup": {"x": [1.5], "words": "warm"},
        "parameters": {"term": version},
    }
    return stage(directory, document, version=version)


def count_package(folder: Path, *, version: int = 1, pause_s: float = 0.0) -> StagedVersion:
    """A text model that counts; `notes_of` finds the file with what it has said."""
    directory = folder / f"count-{version}"
    directory.mkdir(parents=True)
    (directory / "model.py").write_text(COUNT_MODEL)
    document: dict[str, object] = {
        "name": "count",
        "runtime": "python",
        "protocol": "text",
        "warmup": {"prompt": "one two"},
        "parameters": {"notes": str(notes_of(folder)), "pause_s": pause_s},
    }
    return stage(directory, document, version=version)


def notes_of(folder: Path) -> Path:
    """Return the file in which a count package notes its tokens."""
    return folder / "notes.txt"


@pytest.fixture(scope="session")
def filetype_packages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, StagedVersion]:
    """Both versions of the real file type model."""
    built = build_filetype(None, tmp_path_factory.mktemp("filetype"))
    staged = {}
    for model, version, directory in built:
        package = parse_package((directory / "model.yaml").read_text())
        digest = manifest_digest(scan_directory(directory, model))
        staged[version] = StagedVersion(
            model=model, version=version, digest=digest, directory=directory, package=package
        )
    return staged
