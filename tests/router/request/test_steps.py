import random
from typing import cast

import pytest

from federation.contract.access import Tenant
from federation.contract.errors import NotFound, PermissionDenied
from federation.runtime.clock import ManualClock
from router.geo import BUNDLED, Locator
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.policy.access import EVERYONE, Caller
from router.policy.retry import Failed
from router.policy.signals import Attempt, Ending
from router.request.steps import Steps, load_of
from router.state import RouterState
from tests.router.fakes import make_snapshot

URLS = {"eu-1": "http://127.0.0.1:1", "us-1": "http://127.0.0.1:2"}


def steps_on(urls: dict[str, str]) -> Steps:
    state = RouterState(name="r", clock=ManualClock(), dice=random.Random(1))
    state.swap(tables.build(make_snapshot(urls)))
    return Steps(state=state, metrics=Metrics(state), locator=Locator(BUNDLED, ()))


def test_a_version_is_chosen_once_a_table() -> None:
    steps = steps_on(URLS)
    first = steps.resolve(EVERYONE, "digits", None)
    assert first.version == 2
    assert steps.resolve(EVERYONE, "digits", None) is first
    assert steps.resolve(EVERYONE, "digits@champion", None).version == 1
    steps.state.swap(tables.build(make_snapshot(URLS, version=2)))
    assert steps.resolve(EVERYONE, "digits", None) is not first
    with pytest.raises(NotFound):
        steps.resolve(EVERYONE, "digit", None)
    elsewhere = Caller(Tenant(name="t", residency=("us",)))
    with pytest.raises(PermissionDenied):
        steps.resolve(elsewhere, "private", None)


def test_an_attempt_is_counted_where_it_goes_until_it_ends() -> None:
    steps = steps_on(URLS)
    resolved = steps.resolve(EVERYONE, "digits", None)
    decision = steps.decide(resolved, EVERYONE, None)
    assert decision.chosen is not None
    chosen = decision.chosen
    attempt = steps.begin(chosen, resolved, EVERYONE, 0.0)
    assert steps.state.signals.in_flight(chosen.cluster) == 1
    steps.answered(attempt, 503, 7, 0.0)
    failed = Failed(cluster=chosen.cluster, ending=Ending.REFUSED, reason="saturated")
    steps.ended(attempt, failed, 0.0, answered=False, seen=(resolved, chosen, 503, 0.01))
    assert 1 in (sum(counts.refused) for counts in steps.state.counting.counts.values())
    assert steps.state.signals.in_flight(chosen.cluster) == 0
    again = steps.decide(resolved, EVERYONE, None, failed=[failed])
    assert again.chosen is not None
    assert again.chosen.cluster != chosen.cluster
    steps.count(EVERYONE, resolved, chosen, status=200, tokens=3, took_s=0.1)
    page = steps.metrics.page().decode()
    assert 'fed_router_attempts_total{reason="refused"} 1.0' in page
    assert f'cluster="{chosen.cluster}",code_class="2xx",model="digits"' in page
    assert 'fed_router_tenant_tokens_total{tenant="anonymous"} 3.0' in page


def test_a_load_is_a_sane_number() -> None:
    assert [load_of(text) for text in ("0", "42", "", "-1", "1e3", "9" * 7, "²")] == [
        *(0, 42),
        *(None,) * 5,
    ]


def test_a_good_answer_at_once_shows_what_its_two_steps_would() -> None:
    dice, (one, two) = random.Random(7), [steps_on(URLS) for _ in range(2)]
    clocks = [cast(ManualClock, steps.state.clock) for steps in (one, two)]
    lanes = [steps.state.signals.lane("eu-1", "digits", 2) for steps in (one, two)]
    lanes[0].errors = lanes[1].errors = 0.2
    running: list[tuple[Attempt, Attempt, float]] = []
    for _ in range(300):
        now_s = clocks[0].monotonic_s()
        if len(running) < 8 and (not running or dice.random() < 0.5):
            begun = [steps.state.signals.begin("eu-1", "digits", 2, now_s) for steps in (one, two)]
            running.append((begun[0], begun[1], now_s))
        else:
            mine, theirs, sent_s = running.pop(dice.randrange(len(running)))
            load = dice.choice([None, 0, 3, 9])
            mine.went_well(load, now_s)
            theirs.first_byte((now_s - sent_s) * 1000.0, load, now_s)
            theirs.end(Ending.ABANDONED, "", now_s)
            mine.end(Ending.BROKEN, "again", now_s)  # changes nothing
        for clock in clocks:
            clock.advance(dice.random() / 50)
        told = [
            [getattr(lane, name) for name in lane.__slots__ if name not in ("place", "breaker")]
            for lane in lanes
        ]
        assert repr(told[0]) == repr(told[1])
        assert repr(lanes[0].breaker) == repr(lanes[1].breaker)
