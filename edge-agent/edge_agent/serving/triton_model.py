"""A model package as a model of Triton's Python backend.

Input: Triton loads `<version>/model.py`, which names the class below; the package lies in `package`
beside it. Output: tensors for tensor models, batched where the package allows it; for text models a
stream of `text_output`, one response a token, that ends when the client is gone.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import triton_python_backend_utils as pb_utils

from edge_agent.serving.generation import generate
from edge_agent.serving.models import TensorModel, TextModel, count_tokens, load_model
from edge_agent.serving.package import TEXT, read_package
from edge_agent.serving.text import call_from_tensors
from edge_agent.serving.v2 import DTYPES, Array
from edge_agent.serving.v2_terms import BadRequest
from edge_agent.serving.warm import warm

log = logging.getLogger(__name__)

PACKAGE_FOLDER = "package"
_STREAMS_AT_ONCE = 64
_TEXT_INPUTS = ("text_input", "max_tokens", "temperature", "seed", "stop")


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the package of this version, and have it answer once."""
        directory = Path(args["model_repository"], args["model_version"], PACKAGE_FOLDER)
        self._package = read_package(directory)
        self._model = load_model(directory, self._package)
        warm(self._model, self._package)
        self._stopping = False
        self._threads = ThreadPoolExecutor(_STREAMS_AT_ONCE, thread_name_prefix="stream")

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """Answer a batch of tensor requests, or start the streams of text requests."""
        if self._package.protocol != TEXT:
            return self._infer(requests)
        for request in requests:
            self._threads.submit(self._stream, request, request.get_response_sender())
        return None

    def finalize(self) -> None:
        """End the streams that still run."""
        self._stopping = True
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _infer(self, requests: Sequence[Any]) -> list[Any]:
        inputs = [self._arrays(request) for request in requests]
        if len(requests) > 1 and self._package.batchable and _alike(inputs):
            try:
                return self._batch(inputs)
            except Exception:
                log.exception("a batch failed; its requests are tried one by one")
        return [self._one(arrays) for arrays in inputs]

    def _batch(self, inputs: Sequence[Mapping[str, Array]]) -> list[Any]:
        joined = {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}
        outputs = cast("TensorModel", self._model).infer(joined)
        first = self._package.inputs[0].name
        ends = np.cumsum([len(each[first]) for each in inputs])[:-1]
        parts = {name: np.split(array, ends) for name, array in outputs.items()}
        return [
            self._response({name: split[index] for name, split in parts.items()})
            for index in range(len(inputs))
        ]

    def _one(self, arrays: Mapping[str, Array]) -> Any:
        try:
            return self._response(cast("TensorModel", self._model).infer(dict(arrays)))
        except Exception as error:
            log.exception("a request failed")
            return _failure(error)

    def _response(self, arrays: Mapping[str, Array]) -> Any:
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(t.name, np.ascontiguousarray(arrays[t.name], DTYPES[t.datatype]))
                for t in self._package.outputs
            ]
        )

    def _arrays(self, request: Any) -> dict[str, Array]:
        return {
            tensor.name: pb_utils.get_input_tensor_by_name(request, tensor.name).as_numpy()
            for tensor in self._package.inputs
        }

    def _stream(self, request: Any, sender: Any) -> None:
        """Send one response per token; runs in a thread of its own."""
        try:
            given = {n: pb_utils.get_input_tensor_by_name(request, n) for n in _TEXT_INPUTS}
            inputs = {name: tensor.as_numpy() for name, tensor in given.items() if tensor}
            package, model = self._package, cast("TextModel", self._model)
            call = call_from_tensors(inputs, {}, model=package.name, version=str(package.version))
            extra = [_tensor("prompt_tokens", count_tokens(model, call.prompt), np.int32)]
            for piece in generate(model, call):
                if self._stopping or sender.is_cancelled():
                    break
                text = _tensor("text_output", piece.encode(), np.object_)
                sender.send(pb_utils.InferenceResponse([text, *extra]))
                extra = []  # only the first response carries the count
        except Exception as error:
            if not isinstance(error, BadRequest):
                log.exception("a stream failed")
            sender.send(_failure(error))
        finally:
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _alike(inputs: Sequence[Mapping[str, Array]]) -> bool:
    """Whether the requests differ at most in their first dimensions."""
    shapes = [[array.shape[1:] for array in each.values()] for each in inputs]
    return all(shape == shapes[0] for shape in shapes)


def _tensor(name: str, value: object, dtype: Any) -> Any:
    return pb_utils.Tensor(name, np.array([value], dtype=dtype))


def _failure(error: Exception) -> Any:
    if isinstance(error, BadRequest):
        refusal = pb_utils.TritonError(error.message, pb_utils.TritonError.INVALID_ARG)
        return pb_utils.InferenceResponse([], error=refusal)
    message = f"the model failed: {type(error).__name__}: {' '.join(str(error).split())}"[:500]
    return pb_utils.InferenceResponse([], error=pb_utils.TritonError(message))
