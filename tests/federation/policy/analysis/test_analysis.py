"""A whole rollout: aborts, regions that end, kill -9 between any two reports."""

import json
import math

import pytest

from federation.policy.analysis.analysis import Analysis, expired
from federation.policy.analysis.limits import Limits, Metric, Shadow
from federation.policy.analysis.verdict import Outcome, Reason
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
    assert (verdict.outcome, verdict.region) == (Outcome.FAIL, "us-east")
    assert verdict.words.startswith("fail: errors 100.00 % against 0.00 % in us-east, ")
