"""Loads the model of a package, whatever its runtime.

Input: a package directory and its ServedPackage. Output: a TensorModel or a TextModel; LoadError
tells in one sentence why a package cannot be served.
"""

import importlib.util
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from edge_agent.serving.package import TEXT, ServedPackage
from edge_agent.serving.v2 import Array

_serial = itertools.count()


class LoadError(Exception):
    """The package cannot be served; the argument says why."""


class TensorModel(Protocol):
    """Arrays in, arrays out. Within one replica, calls never overlap."""

    def infer(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Answer one request, or one batch of them."""
        ...


class TextModel(Protocol):
    """A prompt in, pieces of text out, one per token. Calls may overlap, each in its own thread.

    A model may also have `count_tokens(text) -> int`; without it a prompt counts as no tokens.
    """

    def generate(
        self, prompt: str, *, max_tokens: int, temperature: float, seed: int | None
    ) -> Iterator[str]:
        """Yield pieces that continue the prompt; closed early when nobody listens any more."""
        ...


def load_model(directory: Path, package: ServedPackage) -> TensorModel | TextModel:
    """Load the package's model; raises LoadError or whatever the package's own code raises."""
    path = directory / package.file
    if not path.is_file():
        raise LoadError(f"the package has no file {package.file!r}")
    if package.runtime == "onnx":
        if package.protocol == TEXT:
            raise LoadError("runtime onnx serves tensors, not text")
        from edge_agent.serving.onnx_model import OnnxModel

        return OnnxModel(path, package)
    model: TensorModel | TextModel = _python_model(directory, path, package)
    return model


def count_tokens(model: object, text: str) -> int:
    """Return how many tokens the model says a text has; 0 if it cannot tell."""
    count = getattr(model, "count_tokens", None)
    return int(count(text)) if callable(count) else 0


def _python_model(directory: Path, path: Path, package: ServedPackage) -> Any:
    module = _import(directory, path)
    factory = getattr(module, "Model", None)
    if factory is None:
        raise LoadError(f"{package.file} has no class Model")
    model = factory(str(directory), dict(package.parameters))
    wanted = "generate" if package.protocol == TEXT else "infer"
    if not callable(getattr(model, wanted, None)):
        raise LoadError(f"the Model of {package.file} has no method {wanted}")
    return model


def _import(directory: Path, path: Path) -> ModuleType:
    """Import a file under a name of its own; its neighbours can be imported by it."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    name = f"fed_package_{next(_serial)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
