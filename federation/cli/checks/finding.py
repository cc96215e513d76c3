"""What a check found, and how findings are judged together.

Input: made by the checks beside this module. Output: rows and an exit code for `fed doctor`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"  # works, but an operator should know
    FAILED = "failed"  # does not work, or is not safe


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: what was looked at, what was seen, and what to do about it."""

    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def ok(name: str, seen: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(name=name, verdict=Verdict.OK, seen=seen)


def warning(name: str, seen: str, remedy: str) -> Finding:
    """Return a finding that an operator should know of."""
    return Finding(name=name, verdict=Verdict.WARNING, seen=seen, remedy=remedy)


def failed(name: str, seen: str, remedy: str) -> Finding:
    """Return a finding that must be mended."""
    return Finding(name=name, verdict=Verdict.FAILED, seen=seen, remedy=remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 1 if anything failed, else 0."""
    return int(any(finding.verdict is Verdict.FAILED for finding in findings))
