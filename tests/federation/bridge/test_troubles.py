"""Which errors say something of one object, and which of the control plane."""

import pytest

from federation.bridge.troubles import is_outdated, silence_of, trouble_of
from federation.cli.client import LinkBroken
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    Exhausted,
    FederationError,
    Invalid,
    NotFound,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
    Unavailable,
)


@pytest.mark.parametrize(
    ("cls", "reason", "silent"),
    [
        (Unavailable, "ControlPlaneUnreachable", True),
        (LinkBroken, "ControlPlaneUnreachable", True),
        (DeadlineExceeded, "ControlPlaneUnreachable", True),
        (Exhausted, "ControlPlaneBusy", True),
        (Unauthenticated, "NotAllowed", True),
        (PermissionDenied, "NotAllowed", False),
        (NotFound, "Refused", False),
        (Conflict, "Refused", False),
        (AlreadyExists, "Refused", False),
        (Invalid, "Refused", False),
        (TooLarge, "Refused", False),
        (FederationError, "Refused", False),
    ],
)
def test_each_error_has_its_words(cls: type[FederationError], reason: str, silent: bool) -> None:
    error = cls("it is so.", hint="Do that.")
    trouble = trouble_of(error)
    assert (trouble.reason, trouble.silent) == (reason, silent)
    assert trouble.message == "it is so. Do that."
    silence = silence_of(error)
    assert silence.silent
    assert silence.reason == ("ControlPlaneUnreachable" if reason == "Refused" else reason)


def test_what_reading_again_solves() -> None:
    assert is_outdated(Conflict("x", reason="stale-version"), "Deployment")
    assert is_outdated(NotFound("x", reason="unknown-deployment"), "Deployment")
    assert not is_outdated(NotFound("x", reason="unknown-model"), "Deployment")
    assert not is_outdated(Conflict("x", reason="model-deployed"), "Deployment")
    assert not is_outdated(Invalid("x"), "Deployment")
