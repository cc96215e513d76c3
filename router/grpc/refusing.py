"""What a client is told when no cluster answered its call.

Input: what was tried, and why no more is. Output: the error that it gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from federation.contract.errors import (
    DeadlineExceeded,
    Exhausted,
    FederationError,
    Unavailable,
)
from federation.relay.h2.status import Unimplemented
from router.grpc.verdict import NO_GRPC
from router.policy.retry import Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A call that is given up: for which model and version (None = unknown), what was tried."""

    name: str
    version: int | None
    failed: Sequence[Failed]
    late: bool  # its deadline passed


def given_up(
    told: Story, why: str, *, unreplayable: bool = False, full: bool = False
) -> FederationError:
    """Say what was tried, why no more, and what the client can do."""
    name, failed = told.name, told.failed
    story = "; ".join(f"{f.cluster}: {f.reason}" for f in failed)
    what = f"version {told.version} of " if told.version is not None else ""
    message = f"No cluster answered for {what}{name!r} ({story}). {why}" if story else why
    reasons = {f.reason for f in failed}
    if reasons == {NO_GRPC}:
        return Unimplemented(
            f"The engines that serve {name!r} speak no gRPC.",
            hint=f"Use HTTP: POST /v2/models/{name}/infer.",
        )
    if full or reasons == {"saturated"}:
        return Exhausted(message, hint="Try again in a second.", reason="saturated")
    if told.late:
        return DeadlineExceeded(message, hint="Allow more time.")
    reason = "not-replayable" if unreplayable else "no-replica"
    return Unavailable(message, hint="Try again in a moment.", reason=reason)
