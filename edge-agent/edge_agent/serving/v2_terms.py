"""What requests of the Open Inference Protocol V2 are made of, for those who compute no tensors.

Input: bytes of a request; values of a sample. Output: the terms that `v2` and the dialects of text
share, and tensors as bytes. Nothing here needs NumPy: it takes 11 MB of each process that has it,
and an agent hands requests on without a look at their tensors.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

HEADER_LENGTH = "inference-header-content-length"
KINDS = {"BOOL": "b", "UINT": "iu", "INT": "iu", "FP": "iuf"}  # what JSON numbers may be
_FORMATS = {
    "BOOL": "?",
    **dict(zip(("UINT8", "UINT16", "UINT32", "UINT64"), "BHIQ", strict=True)),
    **dict(zip(("INT8", "INT16", "INT32", "INT64"), "bhiq", strict=True)),
    **dict(zip(("FP16", "FP32", "FP64"), "efd", strict=True)),
}


class BadRequest(Exception):
    """The request cannot be served as it is; `status` is the HTTP status, the text a sentence."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """What a model declares of one input or output; -1 = any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """One infer request. `outputs` maps each requested output to "as binary?"; empty = all."""

    id: str = ""
    inputs: "Mapping[str, Array]" = field(default_factory=dict)
    datatypes: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, bool] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    binary_output: bool = False

    def wants_binary(self, output: str) -> bool:
        """Return whether this output's data shall follow the JSON as bytes."""
        return self.outputs.get(output, self.binary_output)


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; raises BadRequest."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    return document


def pack_values(values: Sequence[object], name: str, datatype: str) -> bytes:
    """Return values of JSON as the binary extension sends them; raises BadRequest."""
    if datatype == "BYTES":
        if not all(isinstance(value, str) for value in values):
            raise BadRequest(f"input '{name}': the data of BYTES must be strings")
        return b"".join(prefixed(str(value).encode()) for value in values)
    if datatype not in _FORMATS:
        raise BadRequest(f"input '{name}' has the unknown datatype '{datatype}'")
    kinds = KINDS[datatype.rstrip("0123456789")]
    if not all(_kind(value) in kinds for value in values):
        raise BadRequest(f"input '{name}': the data are not all {datatype} values")
    try:
        return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
    except (struct.error, OverflowError):
        told = f"input '{name}': a value is out of the range of {datatype}"
        raise BadRequest(told) from None


def prefixed(data: bytes) -> bytes:
    """Return an element of a BYTES tensor behind its length."""
    return struct.pack("<I", len(data)) + data


def _kind(value: object) -> str:
    """Return the letter of a value in KINDS; "-" if no tensor holds such."""
    if isinstance(value, bool):
        return "b"
    return {int: "i", float: "f"}.get(type(value), "-")
