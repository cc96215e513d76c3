"""One inference inside the engine, before it says that a model is loaded.

Input: a loaded model and the sample of its package. Output: nothing; LoadError unless it answered.
The agent warms up every version that it loads, from outside. Only this reaches replicas that the
engine, or Kubernetes, puts in the place of others later.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from edge_agent.serving.models import LoadError, TensorModel, TextModel
from edge_agent.serving.package import TEXT, ServedPackage
from edge_agent.serving.v2 import DTYPES, Array
from edge_agent.serving.v2_terms import Tensor

DEFAULT_PROMPT = "Hello"
_TOKENS = 2


def warm(model: TensorModel | TextModel, package: ServedPackage) -> None:
    """Have the model answer its package's sample; raises LoadError if it fails."""
    try:
        if package.protocol == TEXT:
            _text(cast("TextModel", model), package)
        else:
            _tensors(cast("TensorModel", model), package)
    except Exception as error:
        told = " ".join(str(error).split()) or "no message"
        raise LoadError(f"the warm-up inference failed: {type(error).__name__}: {told}") from error


def sample_array(tensor: Tensor, sample: object) -> Array:
    """Return a tensor's sample: a dimension of any length counts as one, data that are too few are
    repeated, none are zeros."""
    shape = [1 if size < 0 else size for size in tensor.shape]
    if sample is None or sample == []:
        sample = "" if tensor.datatype == "BYTES" else 0
    flat = np.array(sample, object if tensor.datatype == "BYTES" else None).reshape(-1)
    if tensor.datatype == "BYTES":
        flat = np.array([str(value).encode() for value in flat], object)
    return np.resize(flat.astype(DTYPES[tensor.datatype]), shape)


def _tensors(model: TensorModel, package: ServedPackage) -> None:
    inputs = {t.name: sample_array(t, package.warmup.get(t.name)) for t in package.inputs}
    outputs: Mapping[str, Any] = model.infer(inputs)
    if missing := [t.name for t in package.outputs if t.name not in outputs]:
        raise ValueError(f"it gave no output {missing[0]!r}")


def _text(model: TextModel, package: ServedPackage) -> None:
    sample = package.warmup
    prompt = str(sample.get("prompt") or sample.get("text_input") or DEFAULT_PROMPT)
    pieces = model.generate(prompt, max_tokens=_TOKENS, temperature=1.0, seed=None)
    try:
        if next(iter(pieces), None) is None:
            raise ValueError("it answered nothing")
    finally:
        if callable(close := getattr(pieces, "close", None)):
            close()
