"""One region's verdicts: what keeps a canary from passing, in words."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from federation.contract.rollout import GoldenResult
from federation.policy.analysis.analysis import Analysis
from federation.policy.analysis.counting import Counts
from federation.policy.analysis.limits import Limits, Metric, Shadow
from federation.policy.analysis.verdict import Outcome, Reason, Verdict
from tests.federation.policy.analysis.seeing import QUICK, REFERENCE, Router, opened, plus, run

EXPECTED = {"pop-1": 0.0}


def _region(analysis: Analysis, now: float, expected: dict[str, float] | None = None) -> Verdict:
    return analysis.judge_region(
        "us-east", now, expected=EXPECTED if expected is None else expected
    )


def _step(analysis: Analysis, now: float) -> Verdict:
    return analysis.judge_step("us-east", now, expected=EXPECTED, bake_s=60.0)


def test_a_good_canary_passes_with_its_numbers() -> None:
    analysis = opened()
    now = run(analysis, Router(), 100)
    verdict = _region(analysis, now)
    assert verdict.outcome is Outcome.PASSED, verdict.words
    assert verdict.words == (
        "pass: errors 0.00 % against 0.00 % (limit 0.88 %), p95 +0 % (limit +20 %), "
        "5,000 against 45,000 requests"
    )
    assert verdict.details["errors.log_safe"] > 3


def test_a_silent_router_keeps_it_from_passing_but_not_from_failing() -> None:
    analysis = opened()
    now = run(analysis, Router(), 60)
    verdict = _region(analysis, now, {"pop-1": 0.0, "pop-fra-2": now - 40})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason is Reason.SILENT
    assert verdict.words == (
        "inconclusive: router pop-fra-2 silent for 40 s: nothing can pass in us-east"
    )
    assert not verdict.pause
    late = _region(analysis, now + 300)
    assert (late.reason, late.pause) == (Reason.SILENT, True)
    failing = opened()
    now = run(failing, Router(), 60, errors=10)
    assert _region(failing, now, {"pop-fra-2": 0.0}).outcome is Outcome.FAILED


def test_a_router_that_just_learnt_of_the_split_is_not_silent() -> None:
    analysis = opened()
    now = run(analysis, Router(), 100)
    assert _region(analysis, now, {"pop-1": 0.0, "pop-new": now - 10}).passed
    assert not _region(analysis, now, {"pop-1": 0.0, "pop-new": now - 16}).passed


def _none(analysis: Analysis) -> float:
    return 400.0


def _few(analysis: Analysis) -> float:
    return run(analysis, Router(), 76, stable=9, canary=1)


def _one_client(analysis: Analysis) -> float:
    now = run(analysis, Router(), 60)
    n = analysis.regions["us-east"].evidence[Metric.ERRORS].canary
    n.add([90_000, *[0] * 31], [0] * 32)
    return now


def _overloaded(analysis: Analysis) -> float:
    now = run(analysis, Router(), 60)
    analysis.ready("us-east", stable=90, canary=4)
    return now


def _unsplit(analysis: Analysis) -> float:
    return run(analysis, Router(), 60, stable=990, canary=10)


def _diverted(analysis: Analysis) -> float:
    router = Router()
    run(analysis, router, 1)
    now = run(analysis, router, 60, stable=960, canary=40)
    router.serve(960, 40)
    router.stable = replace(router.stable, diverted=plus(Counts(), 3600).requests)
    analysis.take("us-east", router.report(), now)
    return now


def _drifted(analysis: Analysis) -> float:
    router = Router()
    run(analysis, router, 1)
    now = run(analysis, router, 60)
    stable = analysis.regions["us-east"].evidence[Metric.P95].stable
    stable.bad = stable.requests // 2
    return now


def _doubtful(analysis: Analysis) -> float:
    return run(analysis, Router(), 60, slow=5)


@pytest.mark.parametrize(
    ("bring", "reason", "words"),
    [
        (_none, Reason.FEW_REQUESTS, "0 canary requests in us-east, 100 needed"),
        (_few, Reason.FEW_REQUESTS, "76 canary requests in us-east, 100 needed (about 2 min at"),
        (_one_client, Reason.FEW_CLIENTS, "1 client makes 97 % of the canary's requests in us-e"),
        (_overloaded, Reason.LOAD, "canary runs at 2.5× the stable's load per replica in us-east:"),
        (_unsplit, Reason.SPLIT, "canary got 1.0 % of requests in us-east, weight is 10 %"),
        (
            _diverted,
            Reason.DIVERTED,
            "59 % of the canary's requests in us-east were answered by the stable version: the",
        ),
        (
            _drifted,
            Reason.DRIFT,
            "the stable version itself has 50.0 % slow answers in us-east,",
        ),
        (_doubtful, Reason.UNSURE, "p95 +0 % in us-east, not yet sure that it is below +20 %"),
    ],
)
def test_what_is_missing_is_said(
    bring: Callable[[Analysis], float], reason: Reason, words: str
) -> None:
    analysis = opened()
    now = bring(analysis)
    verdict = _region(analysis, now, {"pop-1": now})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert (verdict.reason, verdict.words[: len(words) + 14]) == (reason, f"inconclusive: {words}")
    assert verdict.pause == (reason is Reason.SPLIT)


def test_baking_no_traffic_and_no_reference() -> None:
    analysis = opened(Limits(settle_s=0.0, min_bake_s=300.0))
    now = run(analysis, Router(), 30)
    verdict = _region(analysis, now)
    assert verdict.words == "inconclusive: baking in us-east: 150 of 5 min"
    assert verdict.wait_s == 150
    assert _region(opened(weight=0.0), 10.0).reason is Reason.NO_TRAFFIC
    blind = Analysis.begin(QUICK, regions=1)
    blind.open("us-east", 0.0)
    blind.weigh("us-east", 10.0, 0.0)
    now = run(blind, Router(), 60)
    assert _region(blind, now).reason is Reason.NO_REFERENCE
    blind.bound("us-east", now, REFERENCE)
    assert _region(blind, now).reason is Reason.UNSURE


def test_a_pass_tells_that_the_canary_had_little_to_do() -> None:
    analysis = opened()
    analysis.ready("us-east", stable=1, canary=1)
    now = run(analysis, Router(), 100)
    assert _region(analysis, now).words.endswith(
        "canary ran at 0.11× the stable's load per replica"
    )


def test_wrong_golden_inputs_are_a_fact() -> None:
    analysis = opened(weight=0.0)
    analysis.golden("us-east", "edge-1", GoldenResult(inputs=8, wrong=0))
    assert not analysis.judge(0.0).failed
    analysis.golden("us-east", "edge-2", GoldenResult(inputs=8, wrong=2, words="a.png: 'cat'"))
    verdict = analysis.judge(0.0)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, Reason.WRONG_INPUTS)
    assert verdict.words == (
        "fail: 2 of 8 golden inputs answered wrongly at edge-2 in us-east, 0 allowed: a.png: 'cat'"
    )
    assert _region(analysis, 0.0).failed
    tolerant = opened(Limits(max_wrong_inputs=2))
    tolerant.golden("us-east", "edge-2", GoldenResult(inputs=8, wrong=2))
    assert not tolerant.judge(0.0).failed


def test_a_step_up_needs_no_proof_but_no_suspicion() -> None:
    analysis = opened()
    router = Router()
    now = run(analysis, router, 14)
    verdict = _step(analysis, now)
    assert verdict.passed
    assert verdict.words == (
        "pass: nothing speaks against a larger share in us-east after 700 canary requests"
    )
    assert not _region(analysis, now).passed
    suspicious = opened()
    now = run(suspicious, Router(), 14, errors=1)
    verdict = _step(suspicious, now)
    assert (verdict.reason, verdict.metric) == (Reason.SUSPECT, Metric.ERRORS)
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_a_step_bakes_from_its_weight_on() -> None:
    analysis = opened()
    router = Router()
    now = run(analysis, router, 14)
    analysis.weigh("us-east", 20.0, now)
    assert _step(analysis, now + 5).reason is Reason.BAKING
    now = run(analysis, router, 14, stable=400, canary=100)
    assert _step(analysis, now).passed


def test_differing_answers_fail_only_where_they_are_judged() -> None:
    judged = opened(Limits(settle_s=0.0, shadow=Shadow.JUDGE))
    now = run(judged, Router(), 60, compared=20, disagreed=10)
    assert not judged.judge(now).failed  # nothing to compare with: the stable has no pairs
    for tail in ("a", "b"):
        router = Router(name=tail)
        run(judged, router, 1, compared=10)
        for _ in range(30):
            now += 5
            router.serve(450, 50, compared=20, disagreed=10)
            router.stable = router.stable.__class__(
                requests=router.stable.requests,
                slow=router.stable.slow,
                latency=router.stable.latency,
                compared=router.stable.compared + 20,
            )
            judged.take("us-east", router.report(), now)
    verdict = judged.judge(now)
    assert verdict.failed
    assert verdict.metric is Metric.SHADOW
    assert verdict.words.startswith("fail: differing answers 49.59 % against 0.00 % in us-east, ")
