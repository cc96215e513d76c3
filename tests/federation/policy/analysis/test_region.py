"""One region: what is counted when, and its state."""

import json
from dataclasses import replace

import pytest

from federation.contract.rollout import GoldenResult
from federation.policy.analysis.counting import Counts
from federation.policy.analysis.limits import Limits, Metric, Shadow
from federation.policy.analysis.region import MAX_SPANS, OWN_PAIRS, RegionState
from federation.policy.analysis.rules import Reference
from tests.federation.policy.analysis.seeing import (
    LATENCY,
    QUICK,
    REFERENCE,
    Router,
    opened,
    plus,
    run,
)


def _counted(region: RegionState) -> dict[Metric, int]:
    return {m: e.canary.requests for m, e in region.evidence.items()}


def test_after_a_change_of_weight_only_errors_count_for_a_while() -> None:
    analysis = opened(Limits(settle_s=60.0))
    router = Router()
    run(analysis, router, 11)
    region = analysis.regions["us-east"]
    assert _counted(region) == {Metric.ERRORS: 550, Metric.REFUSED: 0, Metric.P95: 0}
    run(analysis, router, 4)
    assert _counted(region) == {Metric.ERRORS: 750, Metric.REFUSED: 150, Metric.P95: 150}
    analysis.weigh("us-east", 25.0, 75.0)
    run(analysis, router, 2)
    assert _counted(region) == {Metric.ERRORS: 850, Metric.REFUSED: 150, Metric.P95: 150}


def test_a_report_that_began_before_the_weight_does_not_count() -> None:
    analysis = opened()
    router = Router()
    run(analysis, router, 1)
    router.serve(1000, 1000)
    analysis.weigh("us-east", 25.0, 7.0)
    analysis.take("us-east", router.report(), 10.0)
    assert _counted(analysis.regions["us-east"])[Metric.ERRORS] == 50


def test_without_weight_nothing_counts_and_the_bake_begins_with_it() -> None:
    analysis = opened(weight=0.0)
    run(analysis, Router(), 5)
    region = analysis.regions["us-east"]
    assert _counted(region)[Metric.ERRORS] == 0
    analysis.weigh("us-east", 5.0, 40.0)
    assert region.began == 40.0
    assert all(e.began == 40.0 for e in region.evidence.values())


def test_a_canary_with_too_much_load_is_not_judged_by_its_latency() -> None:
    analysis = opened(weight=50.0)
    analysis.ready("us-east", stable=4, canary=1)
    run(analysis, Router(), 20, stable=100, canary=100, slow=100)
    region = analysis.regions["us-east"]
    assert region.overload() == pytest.approx(4.0)
    # The first report came before the load could be told.
    assert _counted(region) == {Metric.ERRORS: 2000, Metric.REFUSED: 100, Metric.P95: 0}
    analysis.ready("us-east", stable=1, canary=1)
    assert region.overload() is None
    analysis.ready("us-east", stable=1, canary=0)
    assert region.load() is None


def test_refused_requests_are_not_fast_answers() -> None:
    analysis = opened()
    run(analysis, Router(), 10, canary=60, refused=20, slow=60)
    evidence = analysis.regions["us-east"].evidence[Metric.P95]
    assert evidence.canary.requests == evidence.canary.bad  # slow ones are never more than served
    assert 0 < evidence.canary.requests < 10 * 60 - 100


def test_without_a_reference_latency_waits_for_bounds() -> None:
    analysis = opened()
    assert analysis.open("ap-south", 0.0) is None
    region = analysis.regions["ap-south"]
    assert Metric.P95 not in region.evidence
    assert analysis.bound("ap-south", 50.0, Reference(latency={100: 5})) is None
    slow = analysis.bound("ap-south", 60.0, REFERENCE)
    assert slow is not None
    assert region.evidence[Metric.P95].began == 60.0
    assert slow.canary_ms == pytest.approx(1.2 * slow.stable_ms)


def test_renewed_bounds_keep_the_evidence() -> None:
    analysis = opened()
    run(analysis, Router(), 20, slow=25)
    region = analysis.regions["us-east"]
    region.refresh()
    before = region.harms[Metric.P95]
    analysis.bound("us-east", 100.0, REFERENCE)
    region.refresh()
    assert before > 5
    assert region.harms[Metric.P95] == pytest.approx(before)
    assert region.evidence[Metric.P95].canary.requests == 0


def test_shadow_pairs_are_counted_and_judged_only_if_asked() -> None:
    limits = Limits(settle_s=0.0, shadow=Shadow.JUDGE)
    analysis = opened(limits)
    run(analysis, Router(), 20, compared=20, disagreed=2)
    region = analysis.regions["us-east"]
    assert region.shadow == [400, 40, 0, 0]
    evidence = region.evidence[Metric.SHADOW]
    assert evidence.canary.requests == 0  # without pairs of the stable version they say nothing
    router = Router(name="pop-2")
    run(analysis, router, 1)
    router.serve(450, 50)
    router.stable = replace(router.stable, compared=OWN_PAIRS, disagreed=1)
    analysis.take("us-east", router.report(), 110.0)
    assert (evidence.canary.requests, evidence.stable.requests) == (400, OWN_PAIRS)
    assert (evidence.canary.bad, evidence.stable.bad) == (40, 1)
    assert RegionState.from_json(region.to_json(), limits).paired == region.shadow
    plain = opened()
    run(plain, Router(), 20, compared=20, disagreed=2)
    assert Metric.SHADOW not in plain.regions["us-east"].evidence


def test_the_state_survives_and_stays_small() -> None:
    analysis = opened()
    analysis.golden("us-east", "edge-1", GoldenResult(inputs=8, wrong=1, words="x"))
    analysis.ready("us-east", stable=2, canary=1)
    run(analysis, Router(), 240, slow=3)
    region = analysis.regions["us-east"]
    told = json.loads(json.dumps(region.to_json()))
    again = RegionState.from_json(told, QUICK)
    assert json.dumps(again.to_json()) == json.dumps(told)
    for one in (region, again):
        one.refresh()
    assert (again.harms, again.safes) == (region.harms, region.safes)
    assert len(region.spans) <= MAX_SPANS
    assert sum(sum(s.canary.values()) for s in region.spans) == 240 * sum(
        c * 50 // 100 for c in LATENCY.values()
    )
    assert len(json.dumps(told)) < 16_000


def test_a_copy_changes_on_its_own() -> None:
    analysis = opened()
    router = Router()
    run(analysis, router, 10)
    region = analysis.regions["us-east"]
    before = json.dumps(region.to_json())
    copied = region.copy()
    router.serve(100, 100, errors=50)
    copied.take(router.report(), 55.0)
    copied.weigh(50.0, 60.0)
    assert json.dumps(region.to_json()) == before
    assert json.dumps(copied.to_json()) != before


def test_the_share_of_the_draw_counts_whom_the_canary_could_not_be_had_for() -> None:
    """Half was drawn for the canary; a breaker gave most of it to the stable version."""
    analysis, router = opened(weight=50.0), Router()
    run(analysis, router, 1)
    router.serve(900, 200)
    diverted, retried = plus(Counts(), 300).requests, plus(Counts(), 100).requests
    router.stable = replace(router.stable, diverted=diverted, undrawn=retried)
    analysis.take("us-east", router.report(), 10.0)
    region = analysis.regions["us-east"]
    before = 50  # of the canary, and 450 of the stable version
    assert [sum(row) for row in region.shares] == [500 + before, 1000 + before + 450, 300]
    again = RegionState.from_json(json.loads(json.dumps(region.to_json())), region.limits)
    assert again.shares == region.shares


def test_what_was_stored_before_the_draw_was_told_is_read() -> None:
    analysis = opened()
    run(analysis, Router(), 3)
    region = analysis.regions["us-east"]
    old = json.loads(json.dumps(region.to_json()))
    old["shares"] = old["shares"][:2]
    for tail in old["tails"]:
        tail[4], tail[5] = tail[4][:7], tail[5][:7]
    assert RegionState.from_json(old, region.limits).shares == region.shares
