import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from federation.contract.rollout import USER_BUCKETS, CanaryRoute
from federation.contract.types import ModelRoute
from router.policy import split
from router.policy.retry import Failed
from router.policy.signals import Ending
from tests.router.policy.worlds import Fixed

DICE = Fixed(0.5)
WEIGHTS = st.floats(0, 100)


def canary(rollout: str = "ro", **weights: float) -> CanaryRoute:
    return CanaryRoute(rollout=rollout, version=2, weights=weights)


@given(st.text(), st.text(), WEIGHTS, WEIGHTS)
def test_raising_a_share_moves_no_client_back(
    rollout: str, key: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    before = split.drawn(split.Split(canary=canary(rollout, eu=low)), key, DICE)
    after = split.drawn(split.Split(canary=canary(rollout, eu=high)), key, DICE)
    assert after.mark == before.mark
    assert after.takes("eu") or not before.takes("eu")


@given(st.text())
def test_all_means_all_and_nothing_nobody(key: str) -> None:
    drawn = split.drawn(split.Split(canary=canary(eu=100.0, us=0.0)), key, DICE)
    assert (drawn.takes("eu"), drawn.takes("us"), drawn.takes("ap")) == (True, False, False)


def test_shares_of_clients_are_what_was_ordered() -> None:
    """4,000 clients; bounds of five standard deviations, in three rollouts."""
    for rollout in ("a", "b", "c"):
        marks = [split.standing(rollout, f"client-{i}")[0] for i in range(4000)]
        for percent in (1.0, 5.0, 25.0, 50.0):
            share = percent / 100
            bound = 5 * (4000 * share * (1 - share)) ** 0.5
            assert abs(sum(mark < percent for mark in marks) - 4000 * share) < bound


def test_rollouts_spread_clients_anew_and_buckets_are_independent_of_marks() -> None:
    keys = [f"client-{i}" for i in range(4000)]
    first = {key for key in keys if split.standing("a", key)[0] < 10}
    second = {key for key in keys if split.standing("b", key)[0] < 10}
    assert 10 < len(first & second) < 80  # of 400, 40 by chance
    buckets = Counter(split.standing("a", key)[1] for key in first)
    assert len(buckets) > USER_BUCKETS // 2
    assert max(buckets.values()) < 40


def test_who_has_no_key_gets_dice_and_keeps_them_for_all_attempts() -> None:
    dice = random.Random(3)
    unknown = [split.drawn(split.Split(canary=canary(eu=25.0)), "", dice) for _ in range(2000)]
    assert abs(sum(s.takes("eu") for s in unknown) - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5
    assert {s.bucket for s in unknown} == set(range(USER_BUCKETS))
    failed = (Failed(cluster="c", ending=Ending.REFUSED, reason="no", version=2),)
    raised = split.Split(canary=canary(eu=50.0))
    again = split.drawn(raised, "", dice, before=unknown[0], failed=failed)
    assert (again.mark, again.bucket) == (unknown[0].mark, unknown[0].bucket)
    assert (again.canary, again.failed) == (raised.canary, failed)
    anew = split.drawn(split.Split(canary=canary("next", eu=50.0)), "", dice, before=unknown[0])
    assert anew.mark != unknown[0].mark


def test_a_route_without_traffic_for_its_canary_is_not_split() -> None:
    assert split.of(ModelRoute(name="m", default_version=1)) is None
    route = ModelRoute(name="m", default_version=1, canary=canary())
    assert split.of(route) is None
    assert (split.marked(route, 2), split.marked(route, 1)) == ("ro", "")


def test_nobody_in_particular_gets_the_stable_version() -> None:
    found = split.of(ModelRoute(name="m", default_version=1, canary=canary(eu=100.0)))
    assert found is not None
    assert not found.takes("eu")
    assert not found.anywhere


def test_words_tell_why() -> None:
    drawn = split.Split(canary=canary(us=25.0), mark=12.34, sticky=True)
    assert drawn.words("us", 2) == "canary, ro: client 12.3 < 25 % in us."
    assert drawn.words("us", 1).endswith("in us, but the canary cannot be had there now.")
    dice = split.Split(canary=canary(us=25.0), mark=37.2)
    assert dice.words("us", 1) == "stable, ro: request (no client key: dice) 37.2 ≥ 25 % in us."
    assert dice.words("eu", 1).endswith("37.2 ≥ 0 % in eu.")
    assert dice.words("us", 2).endswith("no stable version is left.")
