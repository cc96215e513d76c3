"""How load and capacity are written: shares, gibibytes, rates; an unknown value is an empty cell.

Input: numbers of documents, or None. Output: short texts.
"""

from collections.abc import Callable
from datetime import datetime

from federation.cli.documents import Json, look, look_list


def percent(share: object) -> str:
    """Return a share (0 to 1) in percent."""
    return f"{100 * share:.0f}%" if isinstance(share, int | float) else ""


def amount(value: object) -> str:
    """Return a number with as many places as matter."""
    if not isinstance(value, int | float):
        return ""
    return f"{value:.1f}" if abs(value) < 9.95 and value != int(value) else f"{value:.0f}"


def latency(milliseconds: object) -> str:
    """Return a duration in milliseconds, or in seconds where these are many."""
    if not isinstance(milliseconds, int | float) or not milliseconds:
        return ""
    return f"{milliseconds / 1000:.1f}s" if milliseconds >= 10_000 else f"{amount(milliseconds)}ms"


def of(part: object, whole: object) -> str:
    """Return "part/whole"."""
    return "" if part is None or whole is None else f"{part}/{whole}"


def replicas_of(version: Json) -> str:
    """Return how many replicas run, and how many (or which limits) were given, if that differs."""
    run, given, most = (look(version, key) for key in ("replicas", "given", "max_replicas"))
    if run is None or given is None:
        return ""
    if most:
        return f"{run} ({given} to {most})"
    return str(run) if run == given else f"{run} of {given}"


def gib(used: str, whole: str) -> Callable[[Json, datetime], str]:
    """Return a cell that shows "used/whole" in GiB of two values in MiB; what is unknown is "?"."""

    def cell(row: Json, _now: datetime) -> str:
        part, all_ = look(row, used), look(row, whole)
        if not all_:
            return ""
        told = "?" if part is None else f"{part / 1024:.1f}"
        return f"{told}/{all_ / 1024:.0f}"

    return cell


def condition_words(document: Json) -> str:
    """Return why a cluster is not ready, or why what it tells of its devices is old."""
    words = [] if look(document, "status", "ready") else [look(document, "status", "reason")]
    words += [
        look(each, "message")
        for each in look_list(document, "status", "conditions")
        if look(each, "type") == "CapacityCurrent" and look(each, "status") == "False"
    ]
    return "; ".join(word for word in words if word)
