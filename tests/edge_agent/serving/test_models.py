import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from edge_agent.serving.models import LoadError, TensorModel, count_tokens, load_model
from edge_agent.serving.package import ServedPackage

PACKAGE = ServedPackage(
    name="m",
    version=1,
    digest="d",
    runtime="python",
    protocol="tensor",
    file="model.py",
    parameters={"factor": 3},
)
MODEL = """
from helper_of_m import double
class Model:
    def __init__(self, directory, parameters):
        self.directory, self.factor = directory, parameters["factor"]
    def infer(self, inputs):
        return {"y": double(inputs["x"]) * self.factor}
"""


def load(folder: Path, code: str, package: ServedPackage = PACKAGE) -> object:
    (folder / "model.py").write_text(code)
    return load_model(folder, package)


def test_a_python_model_gets_its_folder_parameters_and_neighbours(tmp_path: Path) -> None:
    (tmp_path / "helper_of_m.py").write_text("def double(x): return 2 * x")
    model = cast("TensorModel", load(tmp_path, MODEL))
    assert model.infer({"x": np.array([1, 2])})["y"].tolist() == [6, 12]


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("x = 1", "no class Model"),
        ("class Model:\n  def __init__(self, d, p): pass", "no method infer"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, code: str, complaint: str) -> None:
    with pytest.raises(LoadError, match=complaint):
        load(tmp_path, code)


def test_a_text_model_must_generate(tmp_path: Path) -> None:
    text = dataclasses.replace(PACKAGE, protocol="text")
    code = "class Model:\n  def __init__(self, d, p): pass\n  def infer(self, i): pass"
    with pytest.raises(LoadError, match="no method generate"):
        load(tmp_path, code, text)


def test_a_missing_file_and_onnx_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no file 'model.py'"):
        load_model(tmp_path, PACKAGE)
    (tmp_path / "model.py").touch()
    with pytest.raises(LoadError, match="not text"):
        load_model(tmp_path, dataclasses.replace(PACKAGE, runtime="onnx", protocol="text"))
    with pytest.raises(LoadError, match="not a Python file"):
        (tmp_path / "model.txt").touch()
        load_model(tmp_path, dataclasses.replace(PACKAGE, file="model.txt"))


def test_tokens_are_counted_by_the_model_or_not_at_all() -> None:
    class Counting:
        def count_tokens(self, text: str) -> int:
            return len(text)

    assert count_tokens(Counting(), "abc") == 3
    assert count_tokens(object(), "abc") == 0
