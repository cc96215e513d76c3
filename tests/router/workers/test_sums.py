import random

from federation.contract.rollout import VersionCounts
from federation.runtime.clock import SystemClock
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.state import RouterState
from router.workers import sums
from router.workers.frames import Family
from tests.router.fakes import make_snapshot


def test_counts_of_versions_add_up_column_by_column() -> None:
    one = VersionCounts(
        model="m", version=1, region="eu", requests=(1, 2), errors=(0, 1), latency={1: 2, 3: 4}
    )
    other = VersionCounts(
        model="m",
        version=1,
        region="eu",
        requests=(10, 20),
        slow=(5, 0),
        latency={3: 1},
        compared=2,
    )
    both = sums.added(one, other)
    assert (both.requests, both.errors, both.slow) == ((11, 22), (0, 1), (5, 0))
    assert (both.latency, both.compared, both.refused) == ({1: 2, 3: 5}, 2, ())
    assert sums.added(other, one) == both


def gauge(name: str, value: float) -> Family:
    return (name, "", "gauge", [(name, {}, value)])


def test_counters_add_up_and_gauges_as_they_mean() -> None:
    counter: Family = ("c", "h", "counter", [("c_total", {"a": "x"}, 2.0), ("c_created", {}, 50.0)])
    more: Family = ("c", "h", "counter", [("c_total", {"a": "y"}, 3.0), ("c_created", {}, 40.0)])
    found = {f[0]: f[3] for f in sums.merged([[counter], [more, counter]])}
    assert found["c"] == [
        ("c_total", {"a": "x"}, 4.0),
        ("c_created", {}, 40.0),
        ("c_total", {"a": "y"}, 3.0),
    ]
    for name, expected in (
        ("fed_router_snapshot_version", 2.0),
        ("fed_router_snapshot_age_seconds", 3.0),
        ("fed_router_client_connections", 5.0),
    ):
        ((_, _, _, samples),) = sums.merged([[gauge(name, 2.0)], [gauge(name, 3.0)]])
        assert samples == [(name, {}, expected)]
    assert sums.cumulative([counter, gauge("g", 1.0)]) == [counter]
    assert sums.without([counter], lambda _, labels: labels.get("a") == "x") == [
        ("c", "h", "counter", [("c_created", {}, 50.0)])
    ]


def test_no_gauge_that_is_named_is_one_that_routers_do_not_have() -> None:
    state = RouterState(name="r1", clock=SystemClock(), dice=random.Random(0))
    state.swap(tables.build(make_snapshot({"eu-1": "http://h:1"})))
    names = {f.name for f in Metrics(state).registry.collect()}
    only_members = {"fed_router_certificate_expiry_timestamp_seconds"}
    assert names | only_members >= sums.LEAST | sums.LARGEST
