import random

from federation.runtime.clock import ManualClock
from router.counting import LEFT
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.policy.decision import Question
from router.policy.hedging import NEVER_S, Hedged, Hedging, Late, Outcome
from router.policy.pick import shortlist
from router.policy.shortlist import Shortlist
from router.policy.table import Resolved
from router.request.hedge import SOON_S, Hedges
from router.state import RouterState
from tests.router.fakes import make_snapshot

URLS = {"eu-1": "http://127.0.0.1:1", "us-1": "http://127.0.0.1:2"}


def world(requests: int = 100) -> tuple[Hedges, RouterState, Metrics, Resolved]:
    clock = ManualClock()
    state = RouterState(name="r", clock=clock, dice=random.Random(1), hedging=Hedging(share=0.02))
    state.swap(tables.build(make_snapshot(URLS)))
    for _ in range(requests):
        state.budget.request(clock.monotonic_s())
    metrics = Metrics(state)
    resolved = state.require_table().resolve("digits")
    return Hedges(state=state, metrics=metrics), state, metrics, resolved


def seen(state: RouterState, resolved: Resolved) -> tuple[Shortlist, Late]:
    now_s = state.clock.monotonic_s()
    question = Question(resolved=resolved, now_s=now_s)
    short = shortlist(state.require_table(), state.signals, question)
    asked = short.by_cluster["eu-1"]
    pace = state.hedging.pace(resolved)
    return short, Late(asked=asked, sent_s=now_s - 1.0, deadline_s=now_s + 9.0, pace=pace)


def test_what_is_late_is_learned_from_the_answers_that_are_counted() -> None:
    hedges, state, _, resolved = world()
    now_s = state.clock.monotonic_s()
    assert hedges.after_s(resolved, now_s) == NEVER_S
    chosen = seen(state, resolved)[0].options
    for i in range(200):
        option = chosen[i % 2]
        option.version = 2
        state.counting.attempted(resolved, option, 200, 0.020 if i % 10 else 0.500)
        state.counting.attempted(resolved, option, LEFT, 9.0)
    assert hedges.after_s(resolved, now_s + 0.5) == NEVER_S  # looked at once a second
    assert 0.5 <= hedges.after_s(resolved, now_s + 1.5) <= 0.53


def test_a_look_tells_where_or_when_to_look_again_and_counts_why() -> None:
    hedges, state, metrics, resolved = world()
    short, late = seen(state, resolved)
    option, wait_s = hedges.look(short, late)
    assert (option, wait_s) == (short.by_cluster["us-1"], 0.0)
    assert hedges.wait_s(short, late) == 0.0
    late.deadline_s = late.sent_s + 1.0
    assert hedges.wait_s(short, late) == -1.0
    late.deadline_s, late.sent_s = late.sent_s + 9.0, late.sent_s + 1.0
    assert hedges.look(short, late)[1] >= SOON_S
    hedges.spend(short, short.by_cluster["us-1"])
    hedges.spend(short, short.by_cluster["us-1"])
    late.sent_s -= 3.0
    assert hedges.look(short, late) == (None, 3.0)  # when it is twice as old
    assert 0.0 < hedges.wait_s(short, late) <= 3.0
    page = metrics.page().decode()
    assert 'fed_router_hedges_not_sent_total{reason="budget"} 2.0' in page


def test_where_few_are_left_the_very_late_come_first() -> None:
    hedges, state, metrics, resolved = world()
    short, late = seen(state, resolved)
    late.pace.very_s = 1.5
    assert hedges.look(short, late) == (None, 0.5)
    assert "not_sent_total{" not in metrics.page().decode()
    late.sent_s -= 0.5
    assert hedges.look(short, late) == (short.by_cluster["us-1"], 0.0)
    for _ in range(600):
        state.budget.request(state.clock.monotonic_s())
    late.sent_s += 0.5
    assert hedges.look(short, late) == (short.by_cluster["us-1"], 0.0)


def test_no_hedges_while_retries_need_more_than_their_share() -> None:
    hedges, state, metrics, resolved = world()
    for _ in range(21):
        state.budget.spend(state.clock.monotonic_s())
    assert hedges.look(*seen(state, resolved)) == (None, 1.0)
    assert 'hedges_not_sent_total{reason="retries"} 1.0' in metrics.page().decode()


def test_what_became_of_it_is_counted_and_paid_back_if_it_was_answered() -> None:
    hedges, state, metrics, resolved = world()
    short, _ = seen(state, resolved)
    hedges.spend(short, short.by_cluster["us-1"])
    assert "1 retries" in repr(state.budget)
    hedged = Hedged(first="eu-1", second="us-1", after_s=0.1, outcome=Outcome.WON, given_up=True)
    hedges.over(resolved, hedged, refund=True)
    assert "0 retries" in repr(state.budget)
    assert state.hedging.pace(resolved).outrun == 1
    hedged.outcome = Outcome.LOST
    hedges.over(resolved, hedged, refund=False)
    assert state.hedging.pace(resolved).outrun == 1
    page = metrics.page().decode()
    assert 'fed_router_hedges_total{outcome="won"} 1.0' in page
    assert 'fed_router_hedges_total{outcome="lost"} 1.0' in page
