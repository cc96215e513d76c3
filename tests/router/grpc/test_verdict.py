import pytest

from federation.contract.types import Endpoint
from federation.relay.h2.service import Failure, Kind
from router.grpc.verdict import NO_GRPC, OUTCOME, of_failure
from router.policy.lanes import Lane, Place
from router.policy.retry import Failed
from router.policy.shortlist import Option
from router.policy.signals import Ending


@pytest.mark.parametrize(
    ("kind", "reason", "ending", "said", "status"),
    [
        (Kind.UNREACHABLE, "x", Ending.UNREACHABLE, "why", 502),
        (Kind.UNPROCESSED, "", Ending.BROKEN, "why", 502),
        (Kind.REFUSED, "saturated", Ending.REFUSED, "saturated", 503),
        (Kind.BROKEN, "", Ending.BROKEN, "why", 502),
        (Kind.GIVEN_UP, "", Ending.BROKEN, "why", 502),
        (Kind.BROKEN, OUTCOME, Ending.REFUSED, OUTCOME, 500),
        (Kind.REFUSED, NO_GRPC, Ending.ABANDONED, NO_GRPC, 503),
    ],
)
def test_what_a_failure_means(
    kind: Kind, reason: str, ending: Ending, said: str, status: int
) -> None:
    option = Option(Endpoint(cluster="c", region="eu", url=""), Lane(Place("c")), 1.0, 0)
    option.version = 2
    failed = of_failure(Failure(kind=kind, why="why", reason=reason), option)
    expected = Failed(cluster="c", ending=ending, reason=said, version=2, status=status)
    assert failed == expected
