import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.lanes import FORGOTTEN_S, NEWS_LASTS_S, QUEUE_COSTS, UNSHOWN, Lane, Place

NOW_S = 100.0


def lane(concurrency: float = 4.0, latency_ms: float = 100.0, limit: float = 0.0) -> Lane:
    made = Lane(Place("a"))
    made.declare(concurrency, latency_ms, limit)
    made.refresh(1.0, 0.0, NOW_S, concurrency)
    return made


@given(
    st.integers(0, 50), st.integers(0, 50), st.integers(1, 20), st.floats(0, 10), st.integers(0, 9)
)
def test_the_cost_is_the_wait_and_the_service(
    own: int, load: int, concurrency: int, later_s: float, then: int
) -> None:
    it = lane(float(concurrency))
    it.own = then
    it.told(load, NOW_S)
    it.own = own
    now_s = NOW_S + later_s
    assert it.cost_ms(now_s) == pytest.approx(it.service_ms + it.wait_ms(now_s))
    assert it.in_flight(now_s) >= own


def test_up_to_its_concurrency_nobody_waits() -> None:
    it = lane(4.0, 100.0)
    assert it.cost_ms(NOW_S) == 100.0
    it.own = 3
    assert it.cost_ms(NOW_S) == 100.0
    it.own = 7
    assert it.wait_ms(NOW_S) == QUEUE_COSTS * 100.0  # four before us, and four end in 100 ms


def test_what_was_sent_since_the_last_news_counts_for_the_others_too() -> None:
    it = lane()
    it.own = 2
    it.told(6, NOW_S)
    assert it.in_flight(NOW_S) == 6.0
    it.own = 4
    assert it.in_flight(NOW_S) == 10.0
    it.told(1, NOW_S)  # it may lie: our own are there
    assert it.in_flight(NOW_S) >= 4.0


def test_old_news_count_less_than_what_is_usual_and_are_forgotten() -> None:
    it = lane()
    for i in range(200):
        it.told(4, NOW_S + i * 0.1)
    now_s = NOW_S + 20.0
    it.told(40, now_s)  # a moment's peak
    usual = it.in_flight(now_s + NEWS_LASTS_S)
    assert it.in_flight(now_s) == pytest.approx(40.0)
    assert it.in_flight(now_s + NEWS_LASTS_S / 2) == pytest.approx((40.0 + usual) / 2)
    assert 4.0 < usual < 6.0
    it.refresh(1.0, 0.0, now_s + NEWS_LASTS_S + FORGOTTEN_S + 0.1)
    assert it.in_flight(now_s + 60.0) == 0.0


def test_of_our_own_those_on_the_way_are_not_in_what_a_far_cluster_tells() -> None:
    near, far = lane(latency_ms=100.0), lane(latency_ms=100.0)
    far.place.rtt.observe(100.0)
    for it in (near, far):
        it.own = 4
        it.told(4, NOW_S)
    assert near.in_flight(NOW_S) == 4.0
    assert far.in_flight(NOW_S) == 6.0  # half of ours are there, so two are somebody else's


def test_what_is_not_answered_for_long_is_not_fast() -> None:
    it = lane(4.0, 100.0)
    it.own = it.awaiting = 1
    it.awaiting_sum_s = NOW_S
    assert it.cost_ms(NOW_S) == 100.0
    assert it.cost_ms(NOW_S + 5.0) > 2000.0


def test_waiting_is_not_taken_for_service() -> None:
    it = lane(4.0, 100.0)
    for i in range(50):
        it.answered(200.0, 8.0, NOW_S + i * 0.1)
    assert it.service_ms == pytest.approx(100.0, rel=0.05)


def test_the_concurrency_of_what_nobody_measured_is_learned() -> None:
    it = lane(0.0, 0.0)
    assert it.concurrency == 1.0
    for i in range(100):
        it.answered(100.0, 8.0 if i else 1.0, NOW_S + i * 0.1)
    assert it.concurrency == pytest.approx(8.0, rel=0.1)
    assert it.service_ms == pytest.approx(100.0, rel=0.2)
    for i in range(100):
        it.answered(400.0, 8.0, NOW_S + 10 + i * 0.1)
    assert it.concurrency < 8.0
    assert repr(it).startswith("Lane(a, own=0")


def test_a_stream_occupies_its_place_longer_than_it_takes_to_begin() -> None:
    it = lane(1.0, 50.0)
    it.answered(50.0, 1.0, NOW_S)
    it.occupied(1050.0, NOW_S + 1.0)
    assert it.service_ms == 50.0
    it.own = 1
    assert it.wait_ms(NOW_S + 1.0) == QUEUE_COSTS * 1050.0


def test_a_concurrency_that_does_not_show_is_not_believed_for_long() -> None:
    it = lane(40.0, 100.0)
    for i in range(60):  # in truth it does four at once
        it.answered(800.0, 16.0, NOW_S + i * 0.1)
    assert it.concurrency < 20.0
    for i in range(200):
        it.answered(90.0, 16.0, NOW_S + 10 + i * 0.1)
    assert it.concurrency == pytest.approx(40.0, rel=0.1)


def test_who_says_to_do_much_more_at_once_than_the_others_must_show_it() -> None:
    it = lane(40.0, 100.0)
    it.shown = 0.0
    it.refresh(1.0, 0.0, NOW_S, 4.0)
    assert it.concurrency == UNSHOWN * 4.0
    for i in range(200):
        it.answered(400.0, 16.0, NOW_S + i * 0.1)  # sixteen take four times as long
    assert it.concurrency <= UNSHOWN * 4.0
    for i in range(200):
        it.answered(90.0, 16.0, NOW_S + 30 + i * 0.1)
    assert it.concurrency == pytest.approx(16.0, rel=0.1)  # what was seen, and no more
    for i in range(200):
        it.answered(90.0, 60.0, NOW_S + 60 + i * 0.1)
    assert it.concurrency == pytest.approx(40.0, rel=0.1)
