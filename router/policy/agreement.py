"""Whether two answers to one request say the same.

Input: the bodies of two answers. Output: yes or no. JSON is compared value by value: numbers may
differ by a little, and what names the answer may differ altogether. Tensors that follow in binary
are compared as numbers where they are floats. Anything else must be equal to the byte.
"""

import math
from array import array
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

RELATIVE = 1e-3
ABSOLUTE = 1e-5
_NAMES = frozenset({"id", "created", "model_version", "system_fingerprint"})
_FLOATS = {"FP32": "f", "FP64": "d"}


def same(one: object, other: object) -> bool:
    """Return whether two decoded JSON documents say the same."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = (one.keys() | other.keys()) - _NAMES
        return all(key in one and key in other and same(one[key], other[key]) for key in keys)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return _near(one, other)
    return one == other


def same_tensors(one: tuple[Any, bytes], other: tuple[Any, bytes]) -> bool:
    """Return whether two V2 answers say the same, each a document and the tensors that follow."""
    if not same(one[0], other[0]):
        return False
    ours, theirs = one[1], other[1]
    at = 0
    for datatype, size in _sizes(one[0]):
        if not _same_bytes(datatype, ours[at : at + size], theirs[at : at + size]):
            return False
        at += size
    return ours[at:] == theirs[at:]


def _sizes(document: Any) -> Sequence[tuple[str, int]]:
    """Return kind and length of each tensor that follows a document."""
    outputs = document.get("outputs") if isinstance(document, Mapping) else None
    found = []
    for output in outputs if isinstance(outputs, list) else ():
        parameters = output.get("parameters") if isinstance(output, Mapping) else None
        size = parameters.get("binary_data_size") if isinstance(parameters, Mapping) else None
        if isinstance(size, int) and size >= 0:
            found.append((str(output.get("datatype")), size))
    return found


def _same_bytes(datatype: str, one: bytes, other: bytes) -> bool:
    kind = _FLOATS.get(datatype)
    if one == other or kind is None:
        return one == other
    width = array(kind).itemsize
    if len(one) != len(other) or len(one) % width:
        return False
    return all(_near(a, b) for a, b in zip_longest(array(kind, one), array(kind, other)))


def _near(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
