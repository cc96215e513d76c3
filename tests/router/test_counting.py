from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract.rollout import USER_BUCKETS, CanaryRoute, SlowAbove, VersionCounts
from federation.contract.types import Endpoint, ModelRoute, Snapshot
from router.counting import LEFT, Counting, upper_ms
from router.policy import split
from router.policy import table as tables
from router.policy.lanes import Lane, Place
from router.policy.retry import Failed
from router.policy.shortlist import Option
from router.policy.signals import Ending
from router.policy.table import Resolved

CANARY = CanaryRoute(
    rollout="ro",
    version=2,
    weights={"eu": 25.0},
    slow={"eu": SlowAbove(stable_ms=100.0, canary_ms=120.0)},
)
ROUTE = ModelRoute(name="m", default_version=1, canary=CANARY)
PLAIN = ModelRoute(name="plain", default_version=1)
FAILED = Failed(cluster="c", status=502, ending=Ending.BROKEN, reason="r")


def option(version: int, region: str = "eu") -> Option:
    endpoint = Endpoint(cluster="c", region=region, url="http://h:1")
    found = Option(endpoint, Lane(Place("c")), 1.0, 0)
    found.version = version
    return found


def resolved(route: ModelRoute = ROUTE, bucket: int = 7) -> Resolved:
    stood = split.Split(canary=CANARY, mark=3.0, bucket=bucket) if route is ROUTE else None
    return Resolved(route=route, version=1, split=stood)


def counting(*routes: ModelRoute) -> Counting:
    made = Counting()
    made.retain(tables.build(Snapshot(version=1, models=routes or (ROUTE, PLAIN))))
    return made


def told(counts: Counting) -> Mapping[tuple[str, int, str], VersionCounts]:
    _, models = counts.report()
    return {(c.model, c.version, c.region): c for each in models for c in each}


@pytest.mark.parametrize(
    ("status", "took_s", "errors", "refused", "slow", "timed"),
    [
        (200, 0.05, 0, 0, 0, 1),
        (200, 0.15, 0, 0, 1, 1),
        (400, 0.15, 0, 0, 0, 0),
        (404, 0.01, 0, 0, 0, 0),
        (429, 0.5, 0, 1, 0, 0),
        (503, 0.01, 0, 1, 0, 0),
        (500, 0.01, 1, 0, 0, 0),
        (502, 9.0, 1, 0, 0, 0),
        (504, 0.01, 1, 0, 1, 0),
        (LEFT, 0.01, 0, 0, 0, 0),
        (LEFT, 9.0, 0, 0, 1, 0),
    ],
)
def test_what_an_attempt_counts_as(
    status: int, took_s: float, errors: int, refused: int, slow: int, timed: int
) -> None:
    counts = counting()
    counts.attempted(resolved(), option(2), status, took_s)
    seen = told(counts)["m", 2, "eu"]
    assert seen.requests == tuple(int(i == 7) for i in range(USER_BUCKETS))
    assert (sum(seen.errors), sum(seen.refused)) == (errors, refused)
    assert (sum(seen.slow), sum(seen.latency.values())) == (slow, timed)


@pytest.mark.parametrize(
    ("mark", "failed", "version", "region", "undrawn", "diverted"),
    [
        (3.0, (), 2, "eu", 0, 0),
        (30.0, (), 1, "eu", 0, 0),
        (3.0, (), 1, "eu", 0, 1),  # its canary could not be had
        (3.0, (), 1, "us", 0, 0),  # where the canary has no share
        (30.0, (), 2, "eu", 1, 0),  # no stable version was left
        (3.0, (FAILED,), 1, "eu", 1, 0),  # a retry is no draw
    ],
)
def test_what_the_draw_gave_is_told_from_what_answered(
    mark: float, failed: tuple[Failed, ...], version: int, region: str, undrawn: int, diverted: int
) -> None:
    counts = counting()
    stood = split.Split(canary=CANARY, mark=mark, bucket=7, failed=failed)
    where = Resolved(route=ROUTE, version=1, split=stood)
    counts.attempted(where, option(version, region), 200, 0.05)
    seen = told(counts)["m", version, region]
    assert (sum(seen.requests), sum(seen.undrawn), sum(seen.diverted)) == (1, undrawn, diverted)


def test_requests_that_name_their_version_are_not_drawn() -> None:
    counts = counting()
    counts.attempted(Resolved(route=ROUTE, version=2), option(2), 200, 0.05)
    assert sum(told(counts)["m", 2, "eu"].undrawn) == 1


def test_each_version_has_its_own_bound_in_each_region_and_others_none() -> None:
    counts = counting()
    for version, region in ((1, "eu"), (2, "eu"), (3, "eu"), (1, "us")):
        counts.attempted(resolved(), option(version, region), 200, 0.11)
        counts.attempted(resolved(), option(version, region), 504, 0.11)
    slow = {key: sum(seen.slow) for key, seen in told(counts).items()}
    assert slow == {("m", 1, "eu"): 2, ("m", 2, "eu"): 1, ("m", 3, "eu"): 0, ("m", 1, "us"): 0}
    counts.retain(
        tables.build(Snapshot(version=2, models=(ModelRoute(name="m", default_version=1),)))
    )
    counts.attempted(resolved(), option(1), 200, 9.0)
    assert sum(told(counts)["m", 1, "eu"].slow) == 2


@settings(max_examples=50)
@given(st.floats(1e-6, 1e6))
def test_a_duration_is_in_the_bucket_that_holds_it(took_ms: float) -> None:
    counts = counting()
    counts.attempted(resolved(PLAIN), option(1), 200, took_ms / 1000)
    (index,) = told(counts)["plain", 1, "eu"].latency
    assert 2 ** (index / 16) * (1 - 1e-9) <= took_ms <= 2 ** ((index + 1) / 16) * (1 + 1e-9)


def test_a_duration_of_nothing_is_counted() -> None:
    counts = counting()
    for took_s in (0.0, -1.0):
        counts.attempted(resolved(PLAIN), option(1), 200, took_s)
    assert told(counts)["plain", 1, "eu"].latency == {-319: 2}


def test_without_a_canary_there_is_one_bucket_and_pins_are_spread() -> None:
    counts = counting()
    for _ in range(64):
        counts.attempted(resolved(PLAIN), option(1), 200, 0.01)
        counts.attempted(Resolved(route=ROUTE, version=2), option(2), 200, 0.01)
    seen = told(counts)
    assert seen["plain", 1, "eu"].requests[0] == 64
    assert seen["m", 2, "eu"].requests == (2,) * USER_BUCKETS


def test_reports_are_cumulative_and_numbered_and_what_left_the_table_is_forgotten() -> None:
    counts = counting()
    sequence, models = counts.report()
    assert (sequence, list(models)) == (1, [])
    for expected in (1, 2):
        counts.attempted(resolved(), option(1), 200, 0.01)
        sequence, models = counts.report()
        ((seen,),) = models
        assert (sequence, sum(seen.requests), seen.errors) == (expected + 1, expected, ())
    counts.compared("m", 1, "eu", agreed=True)
    counts.compared("m", 1, "eu", agreed=False)
    counts.compared("m", 9, "eu", agreed=False)  # not seen
    assert (told(counts)["m", 1, "eu"].compared, told(counts)["m", 1, "eu"].disagreed) == (2, 1)
    counts.retain(tables.build(Snapshot(version=2, models=(PLAIN,))))
    assert not told(counts)
    assert "0 versions" in repr(counts)
    assert Counting().instance != counts.instance


def test_a_report_has_all_versions_of_a_model_together_also_if_one_is_forgotten_meanwhile() -> None:
    counts = counting()
    for model, version in (("plain", 1), ("m", 1), ("plain", 2), ("m", 2)):
        route = PLAIN if model == "plain" else ROUTE
        counts.attempted(resolved(route), option(version), 200, 0.01)
    _, models = counts.report()
    assert [(c.model, c.version) for c in next(models)] == [("m", 1), ("m", 2)]
    counts.retain(tables.build(Snapshot(version=2, models=(ROUTE,))))
    assert list(models) == [()]


def test_a_report_is_no_longer_than_the_control_plane_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("router.counting.MAX_COUNTED", 3)
    counts = counting()
    for model, version in (("plain", 1), ("plain", 2), ("m", 1), ("m", 2)):
        route = PLAIN if model == "plain" else ROUTE
        counts.attempted(resolved(route), option(version), 200, 0.01)
    assert {key[0] for key in told(counts)} == {"m"}


def test_how_long_answers_took_is_there_by_version_of_all_regions() -> None:
    counting, plain = Counting(), resolved(PLAIN)
    for region, took_s in (("eu", 0.010), ("us", 0.100), ("us", 0.100)):
        counting.attempted(plain, option(1, region), 200, took_s)
        counting.attempted(plain, option(1, region), 500, 9.0)
    counting.attempted(plain, option(2), 200, 1.0)
    bounds = [
        {round(upper_ms(index)): count for index, count in histogram.items()}
        for histogram in counting.histograms("plain", 1)
    ]
    assert bounds == [{10: 1}, {103: 2}]
    table = tables.build(Snapshot(version=1, models=(ROUTE,)))
    counting.retain(table)
    assert list(counting.histograms("plain", 1)) == []
