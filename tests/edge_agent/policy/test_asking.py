"""Which version is asked its golden inputs next."""

from edge_agent.policy.asking import Asking, intervals, next_to_ask
from federation.contract.types import AssignedVersion, Assignment, ObservedVersion, VersionState


def seen(version: int, state: VersionState = VersionState.WARMED) -> ObservedVersion:
    return ObservedVersion(model="m", version=version, digest=f"d{version}", state=state)


def asked(*versions: ObservedVersion, at: dict[str, float], now_s: float = 1000.0) -> Asking | None:
    every = {("m", 2): 300, ("m", 3): 300}
    return next_to_ask(versions, at, every, now_s, has_golden=lambda v: v.version != 9)


def test_what_is_warm_and_was_never_asked_goes_first() -> None:
    at = {"d2": 0.0}
    assert asked(seen(2), seen(1), at=at) == Asking(seen(1), again=False)
    assert asked(seen(1, VersionState.LOADED), at=at) is None
    assert asked(seen(9), at=at) is None


def test_a_canary_is_asked_again_and_a_stable_version_is_not() -> None:
    at = {"d1": 0.0, "d2": 700.0}
    assert asked(seen(1), seen(2), at=at) == Asking(seen(2), again=True)
    assert asked(seen(1), seen(2), at=at, now_s=999.0) is None


def test_of_two_the_one_that_waits_longest() -> None:
    at = {"d2": 700.0, "d3": 600.0}
    assert asked(seen(2), seen(3), at=at) == Asking(seen(3), again=True)
    assert asked(seen(2), seen(3, VersionState.FAILED), at=at) == Asking(seen(2), again=True)


def test_how_often_is_what_the_assignment_says() -> None:
    versions = (
        AssignedVersion(model="m", version=1, digest="d1"),
        AssignedVersion(model="m", version=2, digest="d2", golden_every_s=300),
    )
    assert intervals(Assignment(cluster="c", generation=1, versions=versions)) == {("m", 2): 300}
