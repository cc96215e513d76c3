from hypothesis import given
from hypothesis import strategies as st

from router.policy.retry import Failed, Limits, RetryBudget, why_not
from router.policy.signals import Ending

FAILED = Failed(cluster="a", ending=Ending.BROKEN, reason="reset")


def test_a_request_is_sent_again_within_its_limits() -> None:
    limits = Limits(deadline_s=10.0)
    assert why_not([FAILED], limits, 9.9) == ""
    assert why_not([FAILED], limits, 10.0) == "the deadline passed"
    assert why_not([FAILED] * 3, limits, 0.0) == "3 attempts failed"
    once = Limits(deadline_s=10.0, unreplayable="it belongs to a sequence")
    assert why_not([FAILED], once, 0.0) == "it belongs to a sequence"
    assert why_not([], once, 0.0) == ""


def test_a_hopeless_retry_needs_the_share_a_hopeful_one_may_use_the_floor() -> None:
    budget = RetryBudget(share=0.2, floor=2, window_s=10)
    for _ in range(4):
        budget.request(0.0)
    assert not budget.allows(0.0, hopeful=False)
    assert budget.allows(0.0, hopeful=True)
    budget.request(0.0)
    assert budget.allows(0.0, hopeful=False)
    for _ in range(3):
        budget.spend(0.0)
    assert not budget.allows(0.0, hopeful=True)
    budget.refund(0.5)
    assert budget.allows(0.5, hopeful=True)
    assert repr(budget) == "RetryBudget(2 retries, 5 requests in 10 s)"


def test_what_is_older_than_the_window_is_forgotten() -> None:
    budget = RetryBudget(share=0.0, floor=1, window_s=10)
    budget.spend(3.5)
    assert not budget.allows(12.9, hopeful=True)
    assert budget.allows(13.0, hopeful=True)
    budget.refund(20.0)  # nothing left to give back
    assert repr(budget).startswith("RetryBudget(0 retries")


@given(st.lists(st.tuples(st.floats(0, 0.5), st.booleans(), st.booleans())))
def test_retries_never_exceed_share_and_floor(steps: list[tuple[float, bool, bool]]) -> None:
    budget, now_s, retries = RetryBudget(share=0.2, floor=3, window_s=10_000), 0.0, 0
    for requests, (gap_s, hopeful, answered) in enumerate(steps, start=1):
        now_s += gap_s
        budget.request(now_s)
        if budget.allows(now_s, hopeful=hopeful):
            budget.spend(now_s)
            retries += 1
            if answered:
                budget.refund(now_s)
                retries -= 1
        assert retries <= 0.2 * requests + 3


def test_all_requests_are_counted_and_calm_is_without_the_floor() -> None:
    budget = RetryBudget(share=0.2, floor=100, window_s=10)
    for second in range(30):
        budget.request(float(second))
        budget.request(second + 0.9)
    assert budget.requests == 60
    assert budget.is_calm(29.9)
    for _ in range(5):
        budget.spend(29.9)
    assert not budget.is_calm(29.9)
    assert budget.allows(29.9, hopeful=True)
    assert budget.requests == 60
