"""Our values as plain ones: dicts, lists, strings and numbers, ready for JSON.

Input: frozen dataclasses. Output: builtins; keys are the field names, moments are RFC 3339 in UTC.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

Json = dict[str, Any]


def plain(value: object) -> Any:
    """Return `value` in builtins; raises TypeError for what has no plain form."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime):
        return moment(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def moment(value: datetime) -> str:
    """Return a moment in UTC as RFC 3339, in milliseconds."""
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
