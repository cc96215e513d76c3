"""Reading plain JSON of the Kubernetes API: paths that may be absent, quantities, names.

Input: decoded objects as the API server sends them. Output: values; what is absent or of another
type than expected reads as empty, for a newer server may send what we don't know.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]

MIB = 1 << 20
_WORDS = 400  # characters

# Suffixes of quantities: https://kubernetes.io/docs/reference/kubernetes-api/definitions/quantity-resource/
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def at(obj: Any, *path: str) -> Any:
    """Return what lies at a path of an object, or None."""
    for key in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(key)
    return obj


def mapping(obj: Any, *path: str) -> Json:
    """Return the object at a path; empty if there is none."""
    found = at(obj, *path)
    return found if isinstance(found, dict) else {}


def items(obj: Any, *path: str) -> Sequence[Json]:
    """Return the objects of the list at a path."""
    found = at(obj, *path)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else ()


def text(obj: Any, *path: str) -> str:
    """Return the string at a path; "" if there is none."""
    found = at(obj, *path)
    return found if isinstance(found, str) else ""


def quantity(value: Any) -> Decimal:
    """Return a quantity ("8", "500m", "40Gi", "1e3") as a number; 0 if it is none."""
    if isinstance(value, int):
        return Decimal(value)
    written = value if isinstance(value, str) else ""
    try:
        if (shift := _BINARY.get(written[-2:])) is not None:
            found = Decimal(written[:-2]) * (1 << shift)
        elif (power := _DECIMAL.get(written[-1:])) is not None:
            found = Decimal(written[:-1]).scaleb(power)
        else:
            found = Decimal(written)
    except InvalidOperation:
        return Decimal(0)
    return found if found.is_finite() else Decimal(0)


def whole(value: Any) -> int:
    """Return a quantity as a whole number, rounded down, never below 0."""
    return max(0, int(quantity(value)))


def key_of(obj: Json) -> tuple[str, str]:
    """Return namespace and name of an object; the namespace of cluster-wide ones is ""."""
    metadata = obj.get("metadata")
    return text(metadata, "namespace"), text(metadata, "name")


def told(reasons: Iterable[str]) -> str:
    """Return reasons as one text, each once, not longer than people read."""
    joined = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
    return joined if len(joined) <= _WORDS else joined[: _WORDS - 2] + " …"
