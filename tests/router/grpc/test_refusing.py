"""What a client is told when its call is given up."""

from federation.contract.errors import DeadlineExceeded, Exhausted, Unavailable
from federation.relay.h2.status import Unimplemented
from router.grpc.refusing import Story, given_up
from router.grpc.verdict import NO_GRPC
from router.policy.retry import Failed
from router.policy.signals import Ending


def story(*reasons: str, late: bool = False) -> Story:
    failed = tuple(Failed(cluster="eu-1", ending=Ending.BROKEN, reason=r) for r in reasons)
    return Story(name="m", version=2, failed=failed, late=late)


def test_what_was_tried_is_told() -> None:
    error = given_up(story("it broke", "it broke again"), "Enough.")
    assert isinstance(error, Unavailable)
    assert error.message == (
        "No cluster answered for version 2 of 'm' (eu-1: it broke; eu-1: it broke again). Enough."
    )
    assert given_up(story(), "There is none.").message == "There is none."


def test_kinds() -> None:
    assert isinstance(given_up(story(NO_GRPC), ""), Unimplemented)
    assert isinstance(given_up(story("saturated"), ""), Exhausted)
    assert isinstance(given_up(story(), "", full=True), Exhausted)
    assert isinstance(given_up(story("x", late=True), ""), DeadlineExceeded)
    assert given_up(story("x"), "", unreplayable=True).reason == "not-replayable"
