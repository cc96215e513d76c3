import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from federation.contract.errors import InvalidTransition
from router.policy.breaker import (
    FORGIVEN_AFTER_S,
    JITTER,
    LAST_BACKOFF_S,
    TRANSITIONS,
    Breaker,
    BreakerEvent,
    BreakerState,
)


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(breaker.begin(now_s), "connection refused", now_s)
    assert breaker.look(now_s) is BreakerState.OPEN
    return breaker


def test_it_opens_after_three_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.failed(0, "reset", 0.0)
        breaker.failed(0, "reset", 0.0)
        breaker.succeeded(0, 0.0)
    assert breaker.look(0.0) is BreakerState.CLOSED
    assert opened().reason == "connection refused"


def test_one_bad_probe_is_noise_two_eject() -> None:
    breaker = Breaker()
    breaker.probed("silent", 0.0)
    assert breaker.look(0.0) is BreakerState.CLOSED
    breaker.probed("silent", 0.5)
    assert breaker.look(0.5) is BreakerState.OPEN


def test_after_the_backoff_one_request_at_a_time_tries_it_out() -> None:
    breaker = opened()
    assert breaker.look(0.9) is BreakerState.OPEN
    now_s = breaker.ends_s
    assert 1.0 <= now_s <= 1.0 + JITTER
    assert breaker.look(now_s) is BreakerState.HALF_OPEN
    trial = breaker.begin(now_s)
    assert trial
    assert breaker.trial_running
    assert breaker.begin(now_s) == 0
    breaker.failed(0, "late", now_s)  # sent before it opened: shows nothing now
    breaker.succeeded(0, now_s)
    assert breaker.look(now_s) is BreakerState.HALF_OPEN
    breaker.succeeded(trial, now_s)
    assert breaker.look(now_s) is BreakerState.CLOSED
    assert breaker.reason == ""


def test_a_failed_trial_doubles_the_backoff_and_an_abandoned_one_shows_nothing() -> None:
    breaker = opened()
    now_s = breaker.ends_s
    breaker.abandoned(breaker.begin(now_s))
    assert not breaker.trial_running
    breaker.failed(breaker.begin(now_s), "still broken", now_s)
    assert now_s + 2.0 <= breaker.ends_s <= now_s + 2.0 * (1 + JITTER)
    for _ in range(20):
        now_s += 1000.0
        breaker.failed(breaker.begin(now_s), "still broken", now_s)
    assert now_s + 30.0 <= breaker.ends_s <= now_s + 30.0 * (1 + JITTER)


def test_what_comes_back_and_goes_again_waits_longer_each_time() -> None:
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(6):
        waits.append(breaker.ends_s - now_s)
        now_s = breaker.ends_s
        breaker.succeeded(breaker.begin(now_s), now_s)
        now_s += 1.0
        breaker.trip("slow", now_s)
    assert waits[-1] > 20.0
    now_s = breaker.ends_s
    breaker.succeeded(breaker.begin(now_s), now_s)
    now_s += FORGIVEN_AFTER_S
    breaker.trip("slow", now_s)
    assert breaker.ends_s - now_s <= 1.0 + JITTER


def test_routers_do_not_all_try_at_once() -> None:
    ends = set()
    for seed in range(50):
        breaker = Breaker()
        breaker.seed = seed
        breaker.trip("slow", 0.0)
        ends.add(round(breaker.ends_s, 2))
    assert len(ends) > 15


def test_a_silent_cluster_gets_no_trial_until_a_probe_is_good() -> None:
    breaker = Breaker()
    for second in range(10):
        breaker.probed("silent", float(second))
    assert breaker.look(500.0) is BreakerState.OPEN
    breaker.probed("", 500.0)
    assert breaker.look(500.0) is BreakerState.HALF_OPEN
    breaker.probed("silent", 501.0)
    breaker.probed("silent", 501.5)
    assert breaker.look(501.5) is BreakerState.OPEN


def test_good_probes_do_not_excuse_failing_requests() -> None:
    breaker = opened()
    breaker.probed("", 0.5)
    assert breaker.look(0.9) is BreakerState.OPEN


def test_a_wrong_event_is_refused_with_its_story() -> None:
    breaker = opened()
    with pytest.raises(InvalidTransition, match="closed --tripped--> open"):
        breaker._move(BreakerEvent.TRIPPED)


def test_every_state_can_be_left_and_every_event_leads_somewhere() -> None:
    assert {state for state, _ in TRANSITIONS} == set(BreakerState)
    assert {event for _, event in TRANSITIONS} == set(BreakerEvent)


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes in whatever order, no event is refused and at most one trial runs."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now_s = 0.0
        self.flights: list[int] = []

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def sent(self) -> None:
        running = self.breaker.trial_running
        trial = self.breaker.begin(self.now_s)
        assert not (trial and running)
        self.flights.append(trial)

    @rule(data=st.data(), ending=st.sampled_from(["good", "bad", "left"]))
    def ended(self, data: st.DataObject, ending: str) -> None:
        if not self.flights:
            return
        trial = self.flights.pop(data.draw(st.integers(0, len(self.flights) - 1)))
        if ending == "good":
            self.breaker.succeeded(trial, self.now_s)
        elif ending == "bad":
            self.breaker.failed(trial, "broken", self.now_s)
        else:
            self.breaker.abandoned(trial)

    @rule(problem=st.sampled_from(["", "silent"]))
    def probed(self, problem: str) -> None:
        self.breaker.probed(problem, self.now_s)

    @invariant()
    def a_running_trial_is_one_of_the_flights(self) -> None:
        if self.breaker.trial_running:
            assert self.breaker._trial in self.flights

    @invariant()
    def it_can_always_recover(self) -> None:
        if self.breaker.state is BreakerState.OPEN and self.breaker.reachable:
            assert self.breaker.ends_s <= self.now_s + LAST_BACKOFF_S * (1 + JITTER)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=50, stateful_step_count=30)
