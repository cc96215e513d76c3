from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.courtesy import UNBOUNDED, Courtesy

LATE, PROMPT = 0.02, 0.0005


def run(courtesy: Courtesy, late_s: float, looks: int, *, start_s: float = 0.0) -> float:
    for number in range(looks):
        courtesy.look(late_s, served=True, moving=True, now=start_s + number / 10)
    return courtesy.rate


def test_without_requests_transfers_are_free() -> None:
    courtesy = Courtesy()
    assert courtesy.look(LATE, served=False, moving=True, now=0.0) == UNBOUNDED


def test_with_requests_they_step_back_while_the_loop_is_late() -> None:
    courtesy = Courtesy()
    assert courtesy.look(LATE, served=True, moving=True, now=0.0) == courtesy.limits.first
    assert run(courtesy, LATE, 3) < courtesy.limits.first / 2
    assert run(courtesy, LATE, 100) == courtesy.limits.least


def test_and_come_forward_slowly_when_it_is_not() -> None:
    courtesy = Courtesy()
    run(courtesy, LATE, 100)
    assert run(courtesy, PROMPT, 11) == courtesy.limits.least + 11 * courtesy.limits.step


def test_a_while_after_the_last_request_they_are_free_again() -> None:
    courtesy = Courtesy()
    run(courtesy, LATE, 20)
    assert courtesy.look(LATE, served=False, moving=True, now=4.0) < UNBOUNDED
    assert courtesy.look(LATE, served=False, moving=True, now=20.0) == UNBOUNDED


def test_nothing_is_learned_while_nothing_moves() -> None:
    courtesy = Courtesy()
    courtesy.look(LATE, served=True, moving=True, now=0.0)
    before = courtesy.rate
    courtesy.look(LATE, served=True, moving=False, now=0.1)
    courtesy.look(PROMPT, served=True, moving=False, now=0.2)
    assert courtesy.rate == before


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), max_size=60))
def test_the_rate_is_never_below_the_least(looks: list[tuple[float, bool, bool]]) -> None:
    courtesy = Courtesy()
    for number, (late_s, served, moving) in enumerate(looks):
        rate = courtesy.look(late_s, served=served, moving=moving, now=number / 10)
        assert rate >= courtesy.limits.least
