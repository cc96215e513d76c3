import numpy as np
import pytest

from edge_agent.backends.base import StagedVersion
from edge_agent.backends.bundle import served_package
from edge_agent.serving.onnx_model import OnnxModel
from edge_agent.serving.v2 import DTYPES
from federation.demo.filetype import SPECS, filetype_features, label_of
from federation.demo.models import read_labels

PYTHON = b"import sys\n\n\ndef main() -> None:\n    print(sys.argv)\n" * 5
TOML = b'[project]\nname = "x"\nversion = "1"\n\n[tool.ruff]\nline-length = 100\n'


@pytest.mark.parametrize(
    ("version", "content", "label"),
    [(1, PYTHON, "python"), (2, PYTHON, "python"), (1, TOML, "ini"), (2, TOML, "toml")],
)
def test_both_versions_of_a_real_model(
    filetype_packages: dict[int, StagedVersion], version: int, content: bytes, label: str
) -> None:
    staged, spec = filetype_packages[version], SPECS[version]
    model = OnnxModel(staged.directory / staged.package.file, served_package(staged))
    row = np.array([filetype_features(content, spec)], DTYPES[spec.datatype])
    scores = model.infer({"bytes": row})["target_label"]
    labels = read_labels(staged.directory)
    assert scores.shape == (1, len(labels))
    assert label_of(scores[0].tolist(), labels) == label
