"""The stable version against itself: equal halves say nothing, different ones stop the judgement
of latency, and of nothing else."""

import json
import random

from federation.contract.rollout import USER_BUCKETS, SlowAbove
from federation.policy.analysis.analysis import Analysis
from federation.policy.analysis.itself import Itself, own_rule
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.rules import slow_above
from federation.policy.analysis.verdict import Outcome, Reason
from tests.federation.policy.analysis.seeing import LATENCY, QUICK, REFERENCE, Router, opened, run


def _slow() -> SlowAbove:
    slow = slow_above(QUICK, REFERENCE)
    assert slow is not None
    return slow


def _fed(shares: tuple[float, float], blocks: int = 20) -> Itself:
    """Some 300 answers in 30 s; `shares` of both halves are slow."""
    rng, own = random.Random(7), Itself.begin(_slow(), REFERENCE, 0.0)
    for i in range(1, 6 * blocks + 1):
        n = [rng.randrange(5) for _ in range(USER_BUCKETS)]
        k = [sum(rng.random() < shares[b % 2] for _ in range(m)) for b, m in enumerate(n)]
        own.observe(5.0 * i, n, k)
    return own


def test_the_rule_allows_what_the_limit_allows() -> None:
    rule = own_rule(_slow(), REFERENCE)
    assert rule.metric is Metric.P95
    assert rule.slope > 1.5  # 20 % slower: many more answers above the bound
    assert all(share > rule.slope * rule.usual for share in rule.harm)
    assert rule.safe == ()


def test_equal_halves_are_quiet_and_a_slow_half_is_told_whichever_it_is() -> None:
    assert not _fed((0.05, 0.05)).alarmed
    for shares in ((0.6, 0.05), (0.05, 0.6)):
        own = _fed(shares)
        assert own.alarmed
        ratio = own.ratio(LATENCY)
        assert ratio is not None
        assert 1.05 < ratio < 1.6


def test_a_restart_changes_nothing() -> None:
    own = _fed((0.3, 0.05), blocks=3)
    again = Itself.from_json(json.loads(json.dumps(own.to_json())))
    assert again == own == own.copy()
    one = [1] * USER_BUCKETS
    for each in (own, again):
        each.observe(1000.0, one, one)
    assert again == own


def _odd_bucket_slow(analysis: Analysis, router: Router, reports: int) -> float:
    """Slow answers of the stable version go to one half of its clients only."""
    now = run(analysis, router, 1)
    for _ in range(reports):
        now += 5.0
        before = router.stable.slow
        router.serve(450, 50, slow=40)
        more = sum(router.stable.slow) - sum(before)
        slow = [s + (7 * more // 16 if b % 2 else 0) for b, s in enumerate(before)]
        router.stable = type(router.stable)(
            requests=router.stable.requests, slow=tuple(slow), latency=router.stable.latency
        )
        analysis.take("us-east", router.report(), now)
    return now


def test_latency_is_then_neither_failed_nor_passed() -> None:
    analysis, router = opened(), Router()
    now = _odd_bucket_slow(analysis, router, 90)
    state = analysis.regions["us-east"]
    assert state.own is not None
    assert state.own.alarmed
    verdict = analysis.judge_region("us-east", now, expected={"pop-1": 0.0})
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.ITSELF)
    assert verdict.pause
    assert verdict.words.startswith("inconclusive: the stable version differs from itself")
    assert verdict.words.endswith("against the other: latency is not judged")
    step = analysis.judge_step("us-east", now, expected={"pop-1": 0.0}, bake_s=60.0)
    assert step.reason is Reason.ITSELF
    assert state.harms[Metric.P95] == 0.0
    for each in (analysis.copy(), Analysis.from_json(json.loads(json.dumps(analysis.to_json())))):
        assert each.judge_region("us-east", now, expected={"pop-1": 0.0}) == verdict
    now = run(analysis, router, 40, errors=10)
    assert analysis.judge(now).metric is Metric.ERRORS


def test_new_bounds_begin_anew() -> None:
    analysis, router = opened(), Router()
    now = _odd_bucket_slow(analysis, router, 90)
    analysis.bound("us-east", now, REFERENCE)
    own = analysis.regions["us-east"].own
    assert own is not None
    assert not own.alarmed
