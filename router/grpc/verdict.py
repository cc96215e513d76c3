"""What a failed attempt of a gRPC call means: `router.request.verdict`, for gRPC.

Input: a Failure of the switch, and where the call was sent. Output: Failed, from which
`policy.retry` decides whether to try again and `policy.signals` learns.
"""

from federation.relay.h2.service import Failure, Kind
from router.policy.retry import Failed
from router.policy.shortlist import Option
from router.policy.signals import Ending

NO_GRPC = "no-grpc"  # a gateway whose engine speaks none
OUTCOME = "outcome"  # the engine failed under the call
_ENDINGS = {
    Kind.UNREACHABLE: Ending.UNREACHABLE,
    Kind.UNPROCESSED: Ending.BROKEN,
    Kind.REFUSED: Ending.REFUSED,
    Kind.BROKEN: Ending.BROKEN,
    Kind.GIVEN_UP: Ending.BROKEN,
}


def of_failure(failure: Failure, chosen: Option) -> Failed:
    """Return what a failure means."""
    ending, status = _ENDINGS[failure.kind], 503 if failure.kind is Kind.REFUSED else 502
    if failure.reason == NO_GRPC:
        ending = Ending.ABANDONED  # it serves HTTP as well as ever
    elif failure.reason == OUTCOME:
        ending, status = Ending.REFUSED, 500
    reason = failure.why if failure.kind is Kind.UNREACHABLE else failure.reason or failure.why
    return Failed(
        cluster=chosen.cluster,
        ending=ending,
        reason=reason,
        version=chosen.version,
        status=status,
    )
