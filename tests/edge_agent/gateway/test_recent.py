"""How busy versions were lately."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.gateway.recent import WINDOW_S, Figures, Recent

KEY = ("m", 1)


def test_a_version_that_nobody_asked_has_no_figures() -> None:
    assert Recent().figures(KEY, 5.0) == Figures(0.0, 0.0)


def test_rate_and_median_of_the_last_ten_seconds() -> None:
    recent = Recent()
    for tenth in range(100):
        recent.ended(KEY, 100 + tenth / 10, 0.020)
    recent.ended(("m", 2), 109.9, 9.0)
    figures = recent.figures(KEY, 110.0)
    assert figures.rate == 10.0
    assert abs(figures.latency_ms - 20) < 2
    assert recent.figures(KEY, 115.0).rate == 5.0
    assert recent.figures(KEY, 121.0) == Figures()
    assert repr(recent) == "Recent(1 versions)"


def test_memory_is_bounded_however_many_requests_end() -> None:
    recent = Recent()
    for n in range(20_000):
        recent.ended(KEY, n / 100, n % 97 / 1000)
    assert len(recent._seconds[KEY]) <= WINDOW_S + 1
    assert max(len(second.bins) for second in recent._seconds[KEY]) <= 97


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=30))
def test_the_median_is_right_within_a_bin(durations: list[float]) -> None:
    recent = Recent()
    for seconds in durations:
        recent.ended(KEY, 3.0, seconds)
    median = 1000 * statistics.median_low(durations)
    assert median / 1.1 <= recent.figures(KEY, 3.5).latency_ms <= median * 1.1
