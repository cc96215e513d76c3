"""The one door to onnxruntime: an ONNX file as a TensorModel.

Input: a file and what the package declares. Output: arrays of the declared datatypes. One thread
per replica, so that replicas do not fight for cores; CUDA where the package asks for a GPU and the
installed onnxruntime has it.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from edge_agent.serving.package import ServedPackage
from edge_agent.serving.v2 import Array


class OnnxModel:
    """An inference session."""

    def __init__(self, path: Path, package: ServedPackage) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        available = onnxruntime.get_available_providers()
        wanted = ["CUDAExecutionProvider"] if package.gpus else []
        providers = [p for p in [*wanted, "CPUExecutionProvider"] if p in available]
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self._outputs = [tensor.name for tensor in package.outputs]

    def infer(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Run the session once."""
        given = {name: _as_text(array) for name, array in inputs.items()}
        results = self._session.run(self._outputs, given)
        return dict(zip(self._outputs, results, strict=True))


def _as_text(array: Array) -> Array:
    """Return BYTES as the str that onnxruntime wants, other arrays as they are."""
    if array.dtype != np.object_:
        return array
    texts = [e.decode() if isinstance(e, bytes) else str(e) for e in array.flat]
    return np.array(texts, dtype=np.object_).reshape(array.shape)
