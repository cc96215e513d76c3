from hypothesis import given
from hypothesis import strategies as st

from federation.relay.h2.wheel import TICK_S, Wheel


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 10)), max_size=40), st.floats(0, 12))
def test_what_is_due_is_found_once_and_never_early(
    armed: list[tuple[int, float]], now_s: float
) -> None:
    wheel: Wheel[int] = Wheel()
    last = {}
    for one, at_s in armed:
        wheel.arm(one, at_s)
        last[one] = at_s
    due = wheel.due(now_s)
    assert len(due) == len(set(due))
    assert all(last[one] <= now_s for one in due)
    assert {one for one, at_s in last.items() if at_s + 2 * TICK_S <= now_s} <= set(due)
    assert wheel.due(now_s) == []
    assert len(wheel) == len(last) - len(due)


def test_what_is_disarmed_leaves_nothing() -> None:
    wheel: Wheel[str] = Wheel()
    wheel.arm("a", 1.0)
    wheel.arm("a", 2.0)
    wheel.disarm("a")
    wheel.disarm("a")
    assert repr(wheel) == "Wheel(0 due, 0 buckets)"
    assert wheel.due(99.0) == []
