"""Errors of the control plane's client, as the words of a condition.

Input: FederationErrors. Output: Trouble: a reason of one word, a sentence, and whether anything is
known of the control plane at all.
"""

from federation.bridge.policy.status import Trouble
from federation.contract.errors import (
    Conflict,
    DeadlineExceeded,
    Exhausted,
    FederationError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)

UNREACHABLE = "ControlPlaneUnreachable"

WORDS: tuple[tuple[type[FederationError], str, bool], ...] = (
    (Unavailable, UNREACHABLE, True),
    (DeadlineExceeded, UNREACHABLE, True),
    (Exhausted, "ControlPlaneBusy", True),
    (Unauthenticated, "NotAllowed", True),
    (PermissionDenied, "NotAllowed", False),
)


def trouble_of(error: FederationError) -> Trouble:
    """Return what an error of a call about one object means for it."""
    for cls, reason, silent in WORDS:
        if isinstance(error, cls):
            return Trouble(reason, error.sentence(), silent)
    return Trouble("Refused", error.sentence())


def is_outdated(error: FederationError, kind: str) -> bool:
    """Return whether a call failed because the object is no longer as we know it, or gone."""
    if isinstance(error, Conflict):
        return error.reason == "stale-version"
    return isinstance(error, NotFound) and error.reason == f"unknown-{kind.lower()}"


def silence_of(error: FederationError) -> Trouble:
    """Return what it means for all objects that the control plane cannot be asked at all."""
    told = trouble_of(error)
    reason = UNREACHABLE if told.reason == "Refused" else told.reason
    return Trouble(reason, told.message, silent=True)
