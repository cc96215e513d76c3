import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract.rollout import CanaryRoute
from federation.contract.types import ModelProtocol, ModelRoute
from router.counting import upper_ms
from router.policy import hedging
from router.policy import table as tables
from router.policy.decision import Question
from router.policy.hedging import BURST, LEAST_S, NEVER_S, NO_PACE, Hedging, Late, NotSent, Pace
from router.policy.pick import bring_up_to_date, shortlist
from router.policy.retry import Limits
from router.policy.shortlist import Option, Shortlist
from router.policy.signals import Ending, Signals
from router.policy.table import Resolved
from tests.router.fakes import make_snapshot
from tests.router.policy.worlds import Fixed

NOW_S = 100.0
ROUTE = ModelRoute(name="digits", default_version=2)
INDEXES = st.integers(80, 160)  # of buckets, from 33 ms to 1 s


# ---------------------------------------------------------------- when an answer is late


@settings(max_examples=30)
@given(st.lists(INDEXES, min_size=100, max_size=150), st.integers(1, 3))
def test_late_is_what_five_in_a_hundred_are(indexes: list[int], regions: int) -> None:
    histograms = [Counter(indexes[i::regions]) for i in range(regions)]
    pace = Pace()
    assert pace.renew(histograms, upper_ms, NOW_S) == pace.after_s
    for share, seconds in ((0.05, pace.after_s), (0.02, pace.very_s)):
        beyond = sum(upper_ms(index) / 1000 > seconds for index in indexes)
        at_least = sum(upper_ms(index) / 1000 >= seconds for index in indexes)
        assert beyond <= (share + 1e-9) * len(indexes) < at_least


def test_nothing_is_late_where_little_is_known_and_nothing_very_soon() -> None:
    assert Pace().renew([{100: 99}], upper_ms, NOW_S) == NEVER_S
    assert Pace().renew([{-50: 100}], upper_ms, NOW_S) == LEAST_S


def test_old_answers_are_forgotten_but_not_before_there_are_new_ones() -> None:
    pace, slow, fast = Pace(), 160, 80
    assert pace.renew([{slow: 200}], upper_ms, 0.0) == upper_ms(slow) / 1000
    pace.renew([{slow: 200, fast: 150}], upper_ms, 31.0)
    assert pace.renew([{slow: 200, fast: 160}], upper_ms, 1000.0) == upper_ms(slow) / 1000
    pace.renew([{slow: 200, fast: 260}], upper_ms, 1031.0)
    assert pace.renew([{slow: 200, fast: 270}], upper_ms, 1032.0) == upper_ms(fast) / 1000
    assert pace.renew([{fast: 100}], upper_ms, 1033.0) == NEVER_S  # it was counted anew
    assert pace.renew([{fast: 200}], upper_ms, 1034.0) == upper_ms(fast) / 1000


def test_what_was_given_up_counts_as_late() -> None:
    """Or else each hedge would make the next one come sooner."""
    answers = {80: 90, 100: 6}
    assert Pace().renew([{80: 95, 100: 5}], upper_ms, NOW_S) == upper_ms(80) / 1000
    for outrun in (4, 40):
        pace = Pace()
        pace.outrun = outrun
        assert pace.renew([answers], upper_ms, NOW_S) == upper_ms(100) / 1000


def test_paces_are_those_of_models_that_may_be_hedged() -> None:
    shared = Hedging(never=["private"])
    pace = shared.pace(Resolved(route=ROUTE, version=2))
    assert pace is not NO_PACE
    assert shared.pace(Resolved(route=ROUTE, version=2)) is pace
    assert shared.pace(Resolved(route=ROUTE, version=1)) is not pace
    canary = CanaryRoute(rollout="r", version=3, weights={"eu": 5.0})
    for route in (
        replace(ROUTE, protocol=ModelProtocol.TEXT),
        replace(ROUTE, canary=canary),
        replace(ROUTE, name="private"),
    ):
        assert shared.pace(Resolved(route=route, version=2)) is NO_PACE
    assert Hedging(0.0).pace(Resolved(route=ROUTE, version=2)) is NO_PACE
    shared.retain({"other"})
    assert shared.pace(Resolved(route=ROUTE, version=2)) is not pace
    assert NO_PACE.until_s == NO_PACE.after_s == NEVER_S


# ---------------------------------------------------------------- how many


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9)), max_size=50))
def test_hedges_stay_within_their_share(turns: list[tuple[int, int]]) -> None:
    shared, requests, hedges = Hedging(0.02), 0, 0
    for asked, late in turns:
        requests += asked
        before, earned = hedges, 0.02 * requests
        for _ in range(late):
            if shared.allows(requests):
                shared.spend()
                hedges += 1
        assert hedges <= earned + 1e-9
        assert hedges - before <= BURST


def test_limits_tell_whether_a_request_may_be_at_two_clusters() -> None:
    limits = Limits(deadline_s=1.0, may_hedge=True)
    assert [hedging.may_be(limits, failed) for failed in (0, 1, 2)] == [True, True, False]
    assert not hedging.may_be(replace(limits, unreplayable="a sequence"), 0)
    assert not hedging.may_be(Limits(deadline_s=1.0), 0)


# ---------------------------------------------------------------- where to


def world(*clusters: str) -> tuple[Shortlist, Signals]:
    """The nearest first, 10 ms apart; each has 10 places and takes 50 ms."""
    table = tables.build(make_snapshot({name: f"http://{name}:1" for name in clusters}))
    signals = Signals()
    question = Question(resolved=table.resolve("digits"), now_s=NOW_S)
    short = shortlist(table, signals, question)
    for i, option in enumerate(short.options):
        option.lane.place.rtt.ms = 10.0 * (i + 1)
        option.lane.declare(10.0, 50.0, 320.0)
    bring_up_to_date(short, signals, NOW_S)
    return short, signals


def late(short: Shortlist, age_s: float = 1.0, **other: object) -> Late:
    asked = short.by_cluster["eu-1"]
    found = Late(asked=asked, sent_s=NOW_S - age_s, deadline_s=NOW_S + 10.0, pace=NO_PACE)
    return replace(found, **other)  # type: ignore[arg-type]


def busy(option: Option, signals: Signals, requests: int) -> None:
    for _ in range(requests):
        signals.begin(option.cluster, "digits", 2, NOW_S)


def second(short: Shortlist, asked: Late) -> object:
    found = hedging.second(short, asked, NOW_S, Fixed(0.5))
    return found if isinstance(found, NotSent) else found[0].cluster


def test_another_region_is_asked_rather_if_it_is_not_far() -> None:
    short, _ = world("eu-1", "eu-2", "us-1")
    assert second(short, late(short)) == "us-1"
    short.by_cluster["us-1"].way_ms = 500.0
    assert second(short, late(short)) == "eu-2"
    assert second(short, late(short, failed=["eu-2"])) == "us-1"
    assert second(short, late(short, failed=["eu-2", "us-1"])) is NotSent.ALONE


def test_a_far_one_is_not_asked_before_the_request_waited_as_long_as_it_takes() -> None:
    short, _ = world("eu-1", "us-1")
    option = short.by_cluster["us-1"]
    takes_s = (option.rtt_ms + option.lane.cost_ms(NOW_S)) / 1000
    assert takes_s == pytest.approx(0.07)
    found = hedging.second(short, late(short, age_s=0.05), NOW_S, Fixed(0.5))
    assert not isinstance(found, NotSent)
    assert found[1] == pytest.approx(0.02)
    found = hedging.second(short, late(short, age_s=0.08), NOW_S, Fixed(0.5))
    assert found == (option, 0.0)
    asked = late(short, age_s=0.05, deadline_s=NOW_S + 0.08)
    assert second(short, asked) is NotSent.DEADLINE


def test_hedges_go_to_free_places_and_not_into_trouble() -> None:
    short, signals = world("eu-1", "us-1", "ap-1")
    us, ap = short.by_cluster["us-1"], short.by_cluster["ap-1"]
    busy(us, signals, 10)
    assert second(short, late(short)) == "ap-1"
    busy(ap, signals, 5)
    assert second(short, late(short)) is NotSent.LOAD  # 15 of 20 places are taken
    short, signals = world("eu-1", "us-1", "ap-1")
    short.by_cluster["us-1"].lane.held_until_s = NOW_S + 1
    assert second(short, late(short)) == "ap-1"
    short.panic = True
    assert second(short, late(short)) is NotSent.PANIC
    short, signals = world("eu-1", "us-1")
    for _ in range(3):
        attempt = signals.begin("us-1", "digits", 2, NOW_S - 2)
        attempt.end(Ending.BROKEN, "reset", NOW_S - 2)
    assert second(short, late(short)) is NotSent.LOAD  # it would be tried out


@given(st.integers(2, 6), st.integers(0, 2**16))
def test_the_second_is_never_the_first_nor_full(clusters: int, seed: int) -> None:
    dice = random.Random(seed)
    names = [f"{dice.choice(['eu', 'us'])}-{i}" for i in range(clusters)]
    names[0] = "eu-1"
    short, signals = world(*dict.fromkeys(names))
    failed = [name for name in names[1:] if dice.random() < 0.2]
    for option in short.options:
        busy(option, signals, dice.randrange(14))
    found = hedging.second(short, late(short, failed=failed), NOW_S, dice)
    if not isinstance(found, NotSent):
        option = found[0]
        assert option.cluster not in {"eu-1", *failed}
        assert option.lane.in_flight(NOW_S) + 1 <= option.lane.concurrency
