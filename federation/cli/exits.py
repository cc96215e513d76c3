"""The exit codes of `fed`, and which error ends in which.

Input: an error that a command raised. Output: the code; `MEANING` is printed by `fed --help`.
"""

from enum import IntEnum

from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    Exhausted,
    FederationError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)


class ExitCode(IntEnum):
    """What a script can tell from `$?`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_AUTHORISED = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    WAIT_NOT_MET = 7
    DIFFERS = 8
    INTERRUPTED = 130


MEANING: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "refused or failed",
    ExitCode.USAGE: "wrong usage of the command line",
    ExitCode.NOT_FOUND: "the named object does not exist",
    ExitCode.NOT_AUTHORISED: "no valid credentials, or they may not do this",
    ExitCode.CONFLICT: "conflict: it exists already, or changed since it was read",
    ExitCode.UNAVAILABLE: "control plane unavailable, or no answer in time",
    ExitCode.WAIT_NOT_MET: "what --wait waited for did not happen in time",
    ExitCode.DIFFERS: "diff found differences",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
}


class WaitNotMet(FederationError):
    """What `--wait` waited for did not happen in time."""

    reason = "wait-not-met"


_BY_ERROR: dict[type[FederationError], ExitCode] = {
    NotFound: ExitCode.NOT_FOUND,
    Unauthenticated: ExitCode.NOT_AUTHORISED,
    PermissionDenied: ExitCode.NOT_AUTHORISED,
    AlreadyExists: ExitCode.CONFLICT,
    Conflict: ExitCode.CONFLICT,
    Unavailable: ExitCode.UNAVAILABLE,
    DeadlineExceeded: ExitCode.UNAVAILABLE,
    Exhausted: ExitCode.UNAVAILABLE,
    WaitNotMet: ExitCode.WAIT_NOT_MET,
    FederationError: ExitCode.FAILED,
}


def exit_code(error: FederationError) -> ExitCode:
    """Return the exit code of an error, by its nearest class in the table."""
    return next(_BY_ERROR[cls] for cls in type(error).__mro__ if cls in _BY_ERROR)
