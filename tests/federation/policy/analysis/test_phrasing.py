"""Sentences about metrics."""

import pytest

from federation.policy.analysis.limits import Limits, Metric, Shadow
from federation.policy.analysis.phrasing import (
    accusation,
    beyond,
    concentration,
    doubt,
    praise,
    remaining,
    seen,
    worst_start,
)
from tests.federation.policy.analysis.seeing import Router, opened, run


def test_errors_are_told_with_both_shares_the_limit_and_the_counts() -> None:
    analysis = opened()
    now = run(analysis, Router(), 12, errors=2)
    region = analysis.regions["us-east"]
    assert accusation(region, Metric.ERRORS, now) == (
        "errors 4.00 % against 0.00 % in us-east, limit 0.88 %, 600 against 5,400 requests"
    )
    assert beyond(region, Metric.ERRORS)
    assert not beyond(region, Metric.REFUSED)


def test_of_a_late_fault_only_what_came_since_is_told() -> None:
    analysis = opened()
    router = Router()
    run(analysis, router, 130)
    now = run(analysis, router, 20, errors=10)
    region = analysis.regions["us-east"]
    since = worst_start(region.evidence[Metric.ERRORS])
    assert since is not None
    assert since > 300
    words = accusation(region, Metric.ERRORS, now)
    assert "in the last" in words
    share = seen(region, Metric.ERRORS, since).canary
    assert share > 2 * seen(region, Metric.ERRORS).canary


def test_latency_is_told_as_p95() -> None:
    analysis = opened()
    router = Router()
    run(analysis, router, 2)
    region = analysis.regions["us-east"]
    region.spans[-1].canary = {i + 16: c for i, c in region.spans[-1].canary.items()}
    words = accusation(region, Metric.P95, 10.0)
    assert words.startswith("p95 +100 % in us-east (245 ms against 123 ms), limit +20 %, ")


def test_without_latencies_slow_shares_are_told() -> None:
    analysis = opened()
    run(analysis, Router(), 5, slow=25)
    region = analysis.regions["us-east"]
    region.spans.clear()
    words = accusation(region, Metric.P95, 25.0)
    assert words.startswith("slow answers 50.00 % against 4.89 % in us-east, limit p95 +20 %, ")


def test_doubt_and_praise() -> None:
    analysis = opened()
    run(analysis, Router(), 20)
    region = analysis.regions["us-east"]
    assert doubt(region, Metric.P95) == "p95 +0 % in us-east, not yet sure that it is below +20 %"
    assert doubt(region, Metric.ERRORS).endswith("not yet sure that it is below 0.88 %")
    assert praise(region) == (
        "errors 0.00 % against 0.00 % (limit 0.88 %), p95 +0 % (limit +20 %), "
        "1,000 against 9,000 requests"
    )


def test_differing_answers_are_told_where_they_are_not_judged() -> None:
    analysis = opened()
    run(analysis, Router(), 20, compared=20, disagreed=2)
    words = praise(analysis.regions["us-east"])
    assert words.endswith("9,000 requests, 40 of 400 answers unlike the stable's")


def test_few_clients_are_counted() -> None:
    analysis = opened()
    evidence = analysis.regions["us-east"].evidence[Metric.ERRORS]
    evidence.canary.add([50, 30, 10, *[0] * 28, 10], [0] * 32)
    assert concentration(evidence) == (2, 0.8)


def test_what_remains() -> None:
    assert remaining(100.0, 1.5, 0.05) == pytest.approx(100 * (2.9957 - 1.5) / 1.5, rel=1e-3)
    assert remaining(100.0, 0.0, 0.05) is None
    assert remaining(100.0, 9.0, 0.05) == 0


def test_without_pairs_of_answers_that_is_said() -> None:
    analysis = opened(Limits(settle_s=0.0, shadow=Shadow.JUDGE))
    run(analysis, Router(), 2)
    assert doubt(analysis.regions["us-east"], Metric.SHADOW).startswith(
        "no answers were compared in us-east yet"
    )


def test_alone_it_is_told_what_it_is_compared_with() -> None:
    analysis = opened(Limits(settle_s=0.0, alone=True), weight=100.0)
    run(analysis, Router(), 20, stable=0, canary=100, errors=20, slow=60)
    region = analysis.regions["us-east"]
    for metric, value in (
        (Metric.ERRORS, "errors 20.00 % against 0.10 %"),
        (Metric.P95, "slow answers 60.00 % against 5.00 %"),
    ):
        told = accusation(region, metric, 100.0)
        assert told.startswith(value)
        assert told.endswith("00 requests against the stable version's last hour")
    assert "against the stable version's last hour" in praise(region)
