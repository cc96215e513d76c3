"""A whole rollout: aborts, regions that end, kill -9 between any two reports."""

import json
import math
from dataclasses import replace

import pytest

from federation.policy.analysis.analysis import Analysis, expired
from federation.policy.analysis.limits import Limits, Metric, Shadow
from federation.policy.analysis.verdict import Outcome, Reason, Verdict
from tests.federation.policy.analysis.seeing import QUICK, REFERENCE, Router, opened, run


def _until_failed(analysis: Analysis, **bad: int) -> tuple[float, str]:
    router = Router()
    for _ in range(120):
        now = run(analysis, router, 1, **bad)
        if (verdict := analysis.judge(now)).failed:
            return now, verdict.words
    raise AssertionError("never failed")


def test_faults_are_named() -> None:
    _, words = _until_failed(opened(), errors=5)
    assert words.startswith("fail: errors 10.00 % against 0.00 % in us-east, limit ")
    _, words = _until_failed(opened(), refused=20)
    assert words.startswith("fail: refused requests 40.00 % against 0.00 % in us-east, limit ")
    _, words = _until_failed(opened(), slow=50)
    assert words.startswith("fail: slow answers 100.00 % against 4.89 % in us-east, limit p95 ")


def test_the_more_processes_are_planned_the_more_evidence_is_needed() -> None:
    few, _ = _until_failed(opened(regions=1), slow=10)
    many, _ = _until_failed(opened(regions=1000), slow=10)
    assert few < many


def test_regions_to_come_count_as_one_and_ended_ones_keep_their_value() -> None:
    analysis = opened(regions=10)
    assert analysis.evidence() == 1
    now = run(analysis, Router(), 40)
    analysis.judge(now)
    assert 0 < analysis.evidence() < 1.1
    before = analysis.evidence()
    analysis.close("us-east", now)
    assert analysis.regions == {}
    assert analysis.evidence() == pytest.approx(before)
    assert analysis.planned == 30
    verdict = analysis.judge_region("us-east", now, expected={})
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.CLOSED)
    assert analysis.judge_step("us-east", now, expected={}, bake_s=1.0).reason is Reason.CLOSED
    assert not analysis.take("us-east", Router().report(), now)


def test_a_region_that_is_opened_again_begins_anew_and_keeps_its_count() -> None:
    analysis = opened(regions=2)
    now = run(analysis, Router(), 40)
    analysis.open("us-east", now, REFERENCE)
    assert len(analysis.ended) == 3
    assert analysis.regions["us-east"].evidence[Metric.ERRORS].canary.requests == 0


@pytest.mark.parametrize("every", [1, 7])
def test_killed_between_any_two_reports_it_says_the_same(every: int) -> None:
    steady, killed = opened(), opened()
    router, other = Router(), Router()
    for i in range(40):
        bad = {"errors": 1} if i > 20 else {}
        now = run(steady, router, 1, **bad)
        run(killed, other, 1, **bad)
        if i % every == 0:
            killed = Analysis.from_json(json.loads(json.dumps(killed.to_json())))
        assert killed.judge(now) == steady.judge(now)
        passes = [a.judge_region("us-east", now, expected={}) for a in (steady, killed)]
        assert passes[0] == passes[1]
    assert json.dumps(killed.to_json()) == json.dumps(steady.to_json())


def test_what_came_after_the_last_save_is_counted_once_with_the_next_report() -> None:
    analysis = opened()
    router = Router()
    run(analysis, router, 10)
    saved = json.dumps(analysis.to_json())
    now = run(analysis, router, 10, errors=2)
    restored = Analysis.from_json(json.loads(saved))
    for one in (analysis, restored):
        report = router.report()
        one.take("us-east", report, now + 5)
        assert not one.take("us-east", report, now + 10)
    for metric in (Metric.ERRORS, Metric.P95):
        both = [a.regions["us-east"].evidence[metric] for a in (analysis, restored)]
        assert (both[0].canary, both[0].stable) == (both[1].canary, both[1].stable)


def test_doubled_and_old_reports_change_nothing() -> None:
    analysis = opened()
    router = Router()
    old = router.report()
    now = run(analysis, router, 10)
    before = json.dumps(analysis.to_json())
    assert not analysis.take("us-east", old, now)
    assert json.dumps(analysis.to_json()) == before


def test_a_copy_is_on_its_own() -> None:
    analysis = opened()
    run(analysis, Router(), 10)
    before = json.dumps(analysis.to_json())
    copied = analysis.copy()
    run(copied, Router(name="pop-2"), 10, errors=9)
    copied.close("us-east", 50.0)
    assert json.dumps(analysis.to_json()) == before


def test_the_limits_travel_with_the_state() -> None:
    analysis = Analysis.begin(Limits(shadow=Shadow.JUDGE, max_error_rate=0.2), regions=3)
    assert analysis.planned == 12
    assert Analysis.from_json(json.loads(json.dumps(analysis.to_json()))) == analysis


def test_a_bake_that_is_over_asks_for_a_person() -> None:
    analysis = opened(Limits(max_bake_s=600.0))
    assert not analysis.overdue("us-east", 599.0)
    assert analysis.overdue("us-east", 600.0)
    assert not analysis.overdue("elsewhere", 600.0)
    verdict = expired(analysis.judge_region("us-east", 600.0, expected={}), 600.0)
    assert verdict.pause
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.words.endswith("100 needed; after 10 min of baking")


def test_it_says_in_a_line_how_it_stands() -> None:
    assert repr(Analysis.begin(QUICK, regions=1)) == "Analysis(no region open; evidence 1)"
    assert repr(opened()) == "Analysis(us-east 10 %; evidence 1)"


def test_no_evidence_overflows_and_a_region_that_is_done_is_still_named() -> None:
    analysis = opened()
    now = run(analysis, Router(), 200, errors=50)
    analysis.judge(now)
    assert analysis.regions["us-east"].harms[Metric.ERRORS] > 709  # exp() would overflow
    assert math.isfinite(analysis.evidence())
    analysis.close("us-east", now)
    analysis.open("eu-west", now, REFERENCE)
    again = Analysis.from_json(json.loads(json.dumps(analysis.to_json())))
    assert again.to_json() == analysis.to_json()
    verdict = again.judge(now)
    assert (verdict.outcome, verdict.region) == (Outcome.FAILED, "us-east")
    assert verdict.words.startswith("fail: errors 100.00 % against 0.00 % in us-east, ")


SMALL = Limits(settle_s=0.0, min_bake_s=60.0, pool=True)
NAMES = ("ap-south", "sa-east", "af-south")


def _small(limits: Limits, reports: int, **bad: int) -> tuple[Analysis, float]:
    """Three regions, each with ten canary requests in 5 s."""
    analysis = Analysis.begin(limits, regions=3)
    routers = {name: Router() for name in NAMES}
    for name, router in routers.items():
        analysis.open(name, 0.0, REFERENCE)
        analysis.weigh(name, 10.0, 0.0)
        analysis.take(name, router.report(), 0.0)
    now = 0.0
    for _ in range(reports):
        now += 5.0
        for name, router in routers.items():
            router.serve(90, 10, **{"slow": 0, **bad})
            analysis.take(name, router.report(), now)
    return analysis, now


def _together(analysis: Analysis, now: float, *, step: bool = False) -> Verdict | None:
    expected = {"pop-1": 0.0}
    alone = {
        name: analysis.judge_step(name, now, expected=expected, bake_s=30.0)
        if step
        else analysis.judge_region(name, now, expected=expected)
        for name in NAMES
    }
    assert not any(v.passed for v in alone.values())
    return analysis.judge_together(alone, now, step=step)


def test_small_regions_pass_together_only_if_asked_and_say_so() -> None:
    analysis, now = _small(SMALL, 50)
    verdict = _together(analysis, now)
    assert verdict is not None
    assert verdict.words == (
        "pass: pooled over ap-south, sa-east, af-south, which are too small to pass alone: no "
        "limit is broken in all of them; 1,500 against 13,500 requests"
    )
    assert verdict.passed
    assert _together(*_small(replace(SMALL, pool=False), 20)) is None


def test_small_regions_together_are_too_small_or_unsure_as_well() -> None:
    few = _together(*_small(replace(SMALL, min_requests=5000), 20))
    assert few is not None
    assert few.words.endswith(
        "600 canary requests in ap-south, sa-east, af-south together, 5,000 needed"
    )
    unsure = _together(*_small(SMALL, 14))
    assert unsure is not None
    assert unsure.reason is Reason.UNSURE
    assert "also together" in unsure.words
    suspect = _together(*_small(SMALL, 20, errors=1))
    assert suspect is None or not suspect.passed


def test_small_regions_step_up_together() -> None:
    verdict = _together(*_small(replace(SMALL, min_requests=150), 10), step=True)
    assert verdict is not None
    assert verdict.passed
    assert "pooled over ap-south" in verdict.words


def test_what_is_more_than_small_is_not_pooled() -> None:
    analysis, now = _small(SMALL, 30)
    alone = {
        name: analysis.judge_region(name, now, expected={"pop-1": 0.0, "quiet": 0.0})
        for name in NAMES
    }
    assert analysis.judge_together(alone, now, step=False) is None
