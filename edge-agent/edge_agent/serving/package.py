"""What the serving app knows of the package that it serves: `package.json`, beside the model.

Input: the file that the agent wrote when it staged the version into the engine. Output: a
ServedPackage. JSON instead of model.yaml, so that an engine's environment needs no YAML parser.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.serving.v2_terms import Tensor

FILE_NAME = "package.json"
TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPackage:
    """One version of one model. `runtime` is "onnx" or "python", `protocol` "tensor" or "text"."""

    name: str
    version: int
    digest: str
    runtime: str
    protocol: str
    file: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    warmup: Mapping[str, Any] = field(default_factory=dict)
    gpus: int = 0

    @property
    def batchable(self) -> bool:
        """Whether requests may be put together along a first dimension of any length."""
        tensors = (*self.inputs, *self.outputs)
        return bool(tensors) and all(len(t.shape) > 1 and t.shape[0] == -1 for t in tensors)


def read_package(directory: Path) -> ServedPackage:
    """Read the package.json of a directory."""
    document = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))
    for key in ("inputs", "outputs"):
        document[key] = tuple(
            Tensor(name=t["name"], datatype=t["datatype"], shape=tuple(t["shape"]))
            for t in document[key]
        )
    return ServedPackage(**document)


def write_package(directory: Path, package: ServedPackage) -> None:
    """Write the package.json of a directory."""
    text = json.dumps(asdict(package), sort_keys=True, indent=1)
    (directory / FILE_NAME).write_text(text + "\n", encoding="utf-8")
