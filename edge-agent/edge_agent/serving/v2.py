"""The tensors of the Open Inference Protocol V2 by REST, as JSON and in the binary extension.

Input: headers and body of an infer request, or named arrays. Output: an InferRequest, or the
headers and body of a reply; BadRequest says what is wrong, and which 4xx it is. No sockets here.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.serving.v2_terms import (
    HEADER_LENGTH,
    KINDS,
    BadRequest,
    InferRequest,
    Tensor,
    parse_object,
    prefixed,
)

Array = NDArray[Any]

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "BYTES": np.object_,
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}


def parse_infer(headers: Mapping[str, str], body: bytes) -> InferRequest:
    """Parse a request; `headers` have lower-case names. Raises BadRequest."""
    head, rest = _split(headers, body)
    document = parse_object(head)
    inputs, datatypes = {}, {}
    for tensor in _objects(document, "inputs"):
        name = _text(tensor, "name", "an input")
        if name in inputs:
            raise BadRequest(f"input '{name}' is given twice")
        datatypes[name] = _text(tensor, "datatype", f"input '{name}'")
        inputs[name], rest = _tensor(tensor, name, datatypes[name], rest)
    if rest:
        raise BadRequest(f"{len(rest)} bytes follow the last binary tensor")
    parameters = _parameters(document)
    default = parameters.get("binary_data_output") is True
    return InferRequest(
        id=str(document.get("id", "")),
        inputs=inputs,
        datatypes=datatypes,
        outputs={
            _text(output, "name", "an output"): _parameters(output).get("binary_data", default)
            is True
            for output in _objects(document, "outputs")
        },
        parameters=parameters,
        binary_output=default,
    )


def check_inputs(request: InferRequest, declared: Sequence[Tensor]) -> None:
    """Raise BadRequest unless the inputs are those that the model declares."""
    names = [tensor.name for tensor in declared]
    if unknown := [name for name in request.inputs if name not in names]:
        raise BadRequest(f"unexpected input '{unknown[0]}'; the model takes {_listed(names)}")
    for tensor in declared:
        if tensor.name not in request.inputs:
            raise BadRequest(f"input '{tensor.name}' is missing; the model takes {_listed(names)}")
        datatype, shape = request.datatypes[tensor.name], request.inputs[tensor.name].shape
        if datatype != tensor.datatype:
            raise BadRequest(
                f"input '{tensor.name}' has datatype {datatype}, the model takes {tensor.datatype}"
            )
        if not _fits(shape, tensor.shape):
            raise BadRequest(
                f"input '{tensor.name}' has shape {list(shape)},"
                f" the model takes {list(tensor.shape)}"
            )


def check_outputs(request: InferRequest, declared: Sequence[Tensor]) -> None:
    """Raise BadRequest if an output is wanted that the model does not declare."""
    names = [tensor.name for tensor in declared]
    if unknown := [name for name in request.outputs if name not in names]:
        raise BadRequest(f"unexpected output '{unknown[0]}'; the model gives {_listed(names)}")


def encode_infer(
    request: InferRequest,
    outputs: Sequence[tuple[Tensor, Array]],
    *,
    model: str,
    version: str,
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the reply. Raises BadRequest if BYTES cannot be JSON text."""
    described, blobs = [], []
    for tensor, array in outputs:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(array.shape),
        }
        if request.wants_binary(tensor.name):
            blobs.append(to_bytes(array, tensor.datatype))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = _to_json(array, tensor)
        described.append(entry)
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id:
        document["id"] = request.id
    head = json.dumps({**document, "outputs": described}, separators=(",", ":")).encode()
    if not blobs:
        return {"content-type": "application/json"}, head
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return headers, b"".join([head, *blobs])


def to_bytes(array: Array, datatype: str) -> bytes:
    """Return an array as the binary extension sends it: little-endian, BYTES length-prefixed."""
    if datatype != "BYTES":
        return np.ascontiguousarray(array, DTYPES[datatype]).tobytes()
    return b"".join(prefixed(as_bytes(element)) for element in array.reshape(-1))


def as_bytes(element: object) -> bytes:
    """Return one element of a BYTES tensor as bytes; text becomes UTF-8."""
    return element if isinstance(element, bytes) else str(element).encode()


def _split(headers: Mapping[str, str], body: bytes) -> tuple[bytes, bytes]:
    length = headers.get(HEADER_LENGTH)
    if length is None:
        return body, b""
    if not length.isdecimal() or int(length) > len(body):
        raise BadRequest(f"Inference-Header-Content-Length {length!r} does not fit the body")
    return body[: int(length)], body[int(length) :]


def _objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise BadRequest(f"'{key}' must be a list of objects")
    return found


def _parameters(document: Mapping[str, Any]) -> dict[str, Any]:
    found = document.get("parameters", {})
    if not isinstance(found, dict):
        raise BadRequest("'parameters' must be an object")
    return found


def _text(document: Mapping[str, Any], key: str, owner: str) -> str:
    found = document.get(key)
    if not isinstance(found, str) or not found:
        raise BadRequest(f"{owner} needs a '{key}'")
    return found


def _tensor(
    tensor: Mapping[str, Any], name: str, datatype: str, rest: bytes
) -> tuple[Array, bytes]:
    """Return one input's array and what is left of the binary part."""
    if datatype not in DTYPES:
        raise BadRequest(f"input '{name}' has datatype '{datatype}', there are {_listed(DTYPES)}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(_is_size(size) for size in shape):
        raise BadRequest(f"input '{name}' needs a 'shape' of whole numbers")
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        flat = array_from_json(tensor.get("data"), name, datatype)
    elif not _is_size(size) or size > len(rest):
        raise BadRequest(f"input '{name}': binary_data_size {size!r} does not fit the body")
    else:
        flat, rest = _from_bytes(rest[:size], name, datatype), rest[size:]
    count = math.prod(shape)
    if flat.size != count:
        raise BadRequest(f"input '{name}' has {flat.size} elements, its shape {shape} says {count}")
    return flat.reshape(shape), rest


def _is_size(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 40


def _from_bytes(data: bytes, name: str, datatype: str) -> Array:
    if datatype != "BYTES":
        dtype = np.dtype(DTYPES[datatype])
        if len(data) % dtype.itemsize:
            raise BadRequest(f"input '{name}': {len(data)} bytes are not whole {datatype} elements")
        return np.frombuffer(data, dtype)
    found, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            raise BadRequest(f"input '{name}': an element is longer than its tensor")
        found.append(data[at + 4 : end])
        at = end
    return as_array(found)


def array_from_json(data: object, name: str, datatype: str) -> Array:
    """Return JSON data, flat or nested, as a flat array; raises BadRequest."""
    if not isinstance(data, list):
        raise BadRequest(f"input '{name}' needs 'data' or 'binary_data_size'")
    if datatype == "BYTES":
        elements = list(_flatten(data))
        if not all(isinstance(element, str) for element in elements):
            raise BadRequest(f"input '{name}': the data of BYTES must be strings")
        return as_array([element.encode() for element in elements])
    try:
        found = np.array(data)
    except (ValueError, OverflowError):
        raise BadRequest(f"input '{name}': the data is nested unevenly") from None
    if not found.size:
        return np.empty(0, DTYPES[datatype])
    if found.dtype.kind not in KINDS[datatype.rstrip("0123456789")]:
        raise BadRequest(f"input '{name}': the data are not all {datatype} values")
    if datatype.lstrip("U").startswith("INT"):
        limits = np.iinfo(DTYPES[datatype])
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            raise BadRequest(f"input '{name}': a value is out of the range of {datatype}")
    return found.astype(DTYPES[datatype]).reshape(-1)


def _flatten(data: list[Any]) -> Any:
    for element in data:
        if isinstance(element, list):
            yield from _flatten(element)
        else:
            yield element


def as_array(elements: Sequence[bytes]) -> Array:
    """Return the elements of a BYTES tensor as an array."""
    found = np.empty(len(elements), np.object_)
    found[:] = elements
    return found


def _to_json(array: Array, tensor: Tensor) -> list[Any]:
    if tensor.datatype != "BYTES":
        values: list[Any] = array.reshape(-1).tolist()
        return values
    try:
        return [as_bytes(element).decode() for element in array.reshape(-1)]
    except UnicodeDecodeError:
        raise BadRequest(
            f"output '{tensor.name}' is not text: ask for it with binary_data"
        ) from None


def _fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    return len(shape) == len(declared) and all(
        wanted in (-1, size) for size, wanted in zip(shape, declared, strict=True)
    )


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
