"""Rates of what moves, at best."""

import pytest

from edge_agent.policy.pace import WINDOW_S, Pace, SpanPace


def test_time_in_which_nothing_was_on_its_way_does_not_count() -> None:
    pace = Pace()
    pace.note(0, 0.0, active=True)
    pace.note(1000, WINDOW_S / 2, active=False)
    assert pace.rate == 0
    pace.note(1000, 100.0, active=True)
    pace.note(2000, 100.0 + WINDOW_S / 2, active=True)
    assert pace.rate == 2000 / WINDOW_S


def test_the_best_window_counts() -> None:
    pace = Pace()
    for second, count in enumerate((0, 0, 100, 900, 1800, 1800, 1800)):
        pace.note(count, second * WINDOW_S, active=True)
    assert pace.rate == 900 / WINDOW_S


def test_it_may_take_more_than_one_window() -> None:
    pace = Pace(windows=2)
    pace.note(0, 0.0, active=True)
    pace.note(1000, WINDOW_S, active=True)
    assert pace.rate == 0
    pace.note(1100, 2 * WINDOW_S, active=True)
    assert pace.rate == 1000 / WINDOW_S


def test_transfers_side_by_side_add_up() -> None:
    pace = SpanPace()
    assert pace.rate == 0
    pace.note(500, 0.5, 0.5)
    assert pace.rate == 0  # too short to tell
    pace.note(500, 0.9, 1.0)
    assert pace.rate == pytest.approx(1000)


def test_the_best_of_late_counts() -> None:
    pace = SpanPace()
    pace.note(5000, 1.0, 1.0)
    pace.note(100, 1.0, 50.0)  # nothing moved in between
    assert pace.rate == pytest.approx(5000)
    for second in range(51, 80):
        pace.note(100, 1.0, float(second))
    assert pace.rate == pytest.approx(100)
