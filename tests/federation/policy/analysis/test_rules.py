"""Rules: what each metric asks, and where its guesses come from."""

import pytest

from federation.contract.rollout import SlowAbove
from federation.policy.analysis.limits import Limits, Metric
from federation.policy.analysis.rules import Reference, rule_of, slow_above, slow_rule
from tests.federation.policy.analysis.seeing import REFERENCE


def test_the_error_limit_is_met_at_the_usual_rate_and_rises_with_the_region() -> None:
    rule = rule_of(Metric.ERRORS, Limits(max_error_rate=0.01), REFERENCE)
    assert rule.limit(0.001) == pytest.approx(0.01)
    assert rule.limit(0.10) > 0.125
    failing = rule_of(Metric.ERRORS, Limits(), Reference(requests=100, errors=20))
    assert failing.slack == 0.0005  # a stable that fails more than the limit is the yardstick
    assert failing.limit(0.2) == pytest.approx(0.2505)


def test_a_version_never_asked_is_believed_to_be_without_errors() -> None:
    assert rule_of(Metric.ERRORS, Limits(), Reference()).usual == 0
    assert rule_of(Metric.REFUSED, Limits(), Reference()).limit(0) == pytest.approx(0.01)
    assert rule_of(Metric.SHADOW, Limits(), Reference()).limit(0.02) == pytest.approx(0.03)


def test_slow_bounds_are_the_usual_p95_and_ratio_times_it() -> None:
    slow = slow_above(Limits(max_p95_ratio=1.5), REFERENCE)
    assert slow is not None
    assert slow.stable_ms == pytest.approx(2 ** (111 / 16))
    assert slow.canary_ms == pytest.approx(1.5 * slow.stable_ms)
    assert slow_above(Limits(), Reference(latency={100: 99})) is None


def test_guesses_of_slow_answers_are_on_their_sides() -> None:
    slow = slow_above(Limits(), REFERENCE)
    assert slow is not None
    rule = slow_rule(slow, REFERENCE)
    assert rule.usual == pytest.approx(0.05)
    assert all(share > rule.usual for share in rule.harm)
    assert all(0 < share < rule.usual for share in rule.safe)
    assert list(rule.harm) == sorted(rule.harm)
    assert rule.harm[-1] == 0.95


def test_equal_latencies_make_shares_above_zero_still() -> None:
    one = Reference(latency={100: 500})
    rule = slow_rule(SlowAbove(stable_ms=2 ** (101 / 16), canary_ms=100.0), one)
    assert rule.usual > 0
    assert min(*rule.safe, *rule.harm) > 0
