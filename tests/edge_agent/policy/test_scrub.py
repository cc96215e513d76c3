from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.scrub import LOOK_S, Checked, Due, next_due, pause_s

WEEK_S = 7 * 86_400.0


def checked(version: int, at: float) -> Checked:
    return Checked(key=("m", version, "d"), at=at)


def test_the_oldest_check_is_due_first() -> None:
    packages = [checked(1, 500), checked(2, 100), checked(3, 900)]
    assert next_due(packages, 1000, 600) == Due(key=("m", 2, "d"))
    assert next_due(packages, 1000, 1000) == Due(key=None, wait_s=100)
    assert next_due([checked(1, 0)], WEEK_S, WEEK_S).key is not None  # nobody knows when


def test_somebody_looks_now_and_then_for_new_ones() -> None:
    assert next_due([], 0, WEEK_S) == Due(key=None, wait_s=LOOK_S)
    assert next_due([checked(1, 0)], 1, WEEK_S) == Due(key=None, wait_s=LOOK_S)


def test_a_clock_that_was_set_back_delays_by_one_period_at_most() -> None:
    assert next_due([checked(1, 1e12)], 1000, 600) == Due(key=None, wait_s=600)


@given(st.lists(st.floats(0, 1e9), max_size=5), st.floats(0, 1e9), st.floats(1, 1e7))
def test_nothing_is_checked_twice_in_a_period_and_nothing_waits_for_ever(
    times: list[float], now: float, every_s: float
) -> None:
    due = next_due([checked(n, at) for n, at in enumerate(times)], now, every_s)
    if due.key is None:
        assert 0 < due.wait_s <= LOOK_S
        assert all(at + every_s > now for at in times)
    else:
        assert times[due.key[1]] == min(times)
        assert times[due.key[1]] + every_s <= now


def test_the_rate_holds() -> None:
    assert pause_s(0, 0.0) == 0.0
    assert pause_s(8_000_000, 0.5, 4e6) == 1.5
    assert pause_s(8_000_000, 3.0, 4e6) == 0.0
