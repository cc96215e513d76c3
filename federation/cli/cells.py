"""What a cell of a table shows: values, times, ages, sizes, as people say them.

Input: values of documents. Output: short texts. A missing value becomes "-" in the table.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from federation.cli.documents import Json, look


def text(*path: str) -> Callable[[Json, datetime], str]:
    """Return a cell that shows the value at `path`."""
    return lambda document, _now: shown(look(document, *path))


def shown(value: object) -> str:
    """Return a plain value as a cell shows it."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={each}" for key, each in value.items())
    return str(value)


def parse_time(value: object) -> datetime | None:
    """Return the moment that an RFC 3339 text names, or None."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def duration(seconds: float) -> str:
    """Return a length of time as people say it: 42s, 5m, 3h, 41d."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length_s:
            return f"{int(seconds // length_s)}{unit}"
    return f"{max(int(seconds), 0)}s"


def age(document: Json, now: datetime) -> str:
    """Return how long ago the object was created."""
    created = parse_time(look(document, "metadata", "createdAt"))
    return duration((now - created).total_seconds()) if created else ""


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def snapshot(version: object) -> str:
    """Return a snapshot version as start.sequence (it is start << 32 | sequence)."""
    if not isinstance(version, int) or version <= 0:
        return ""
    return f"{version >> 32}.{version & 0xFFFFFFFF}"
