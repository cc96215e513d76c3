from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from federation.contract.rollout import CanaryRoute, VersionCounts
from federation.contract.types import ModelRoute
from router.policy import table as tables
from router.workers.frames import Family, Report, Seen
from router.workers.ledger import Ledger
from tests.router.fakes import make_snapshot

OUT = Seen(open=True, rtt_ms=None, reason="slow")


def counts(requests: int, model: str = "digits") -> VersionCounts:
    return VersionCounts(model=model, version=1, region="eu", requests=(requests,) + (0,) * 31)


def figures(value: float, **labels: str) -> list[Family]:
    return [
        ("c", "h", "counter", [("c_total", labels, value)]),
        ("g", "h", "gauge", [("g", {}, value)]),
    ]


def total(ledger: Ledger) -> int:
    _, models = ledger.report(None)
    return sum(sum(one.requests) for versions in models for one in versions)


def test_what_a_worker_counted_outlives_it_and_what_it_saw_does_not() -> None:
    ledger = Ledger()
    ledger.of(0).take(Report(5, 1, {"m": 2}, {"a": OUT}, [counts(5)]))
    ledger.of(1).take(Report(7, 0, {"m": 1}, {}, [counts(7)]))
    ledger.of(0).families, ledger.of(1).families = figures(5.0), figures(7.0)
    assert (ledger.requests, ledger.errors, total(ledger)) == (12, 1, 12)
    assert (ledger.demand(), ledger.seen("a")) == ({"m": 3}, [OUT])
    assert {f[0]: f[3][0][2] for f in ledger.families()} == {"c": 12.0, "g": 12.0}
    ledger.ended(0)
    ledger.ended(0)  # once
    assert (ledger.requests, ledger.errors, total(ledger)) == (12, 1, 12)
    assert (ledger.demand(), ledger.seen("a")) == ({"m": 1}, [])
    assert {f[0]: f[3][0][2] for f in ledger.families()} == {"c": 12.0, "g": 7.0}
    ledger.of(0).take(Report(1, 0, {}, {}, [counts(1)]))  # its successor begins anew
    assert (ledger.requests, total(ledger)) == (13, 13)


@given(st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(1, 9)))))
def test_totals_are_exact_and_never_go_backwards(steps: list[tuple[int, int | None]]) -> None:
    ledger, alive, whole = Ledger(), dict.fromkeys(range(3), 0), 0
    for worker, amount in steps:
        if amount is None:
            alive[worker] = 0
            ledger.ended(worker)
        else:
            alive[worker] += amount
            whole += amount
            ledger.of(worker).take(Report(alive[worker], 0, {}, {}, [counts(alive[worker])]))
        assert ledger.requests == total(ledger) == whole


def test_reports_are_numbered_and_models_between_two_versions_come_first() -> None:
    routes = (ModelRoute(name="a", default_version=1), ModelRoute(name="b", default_version=1))
    canary = CanaryRoute(rollout="b-1", version=2, weights={})
    table = tables.build(
        make_snapshot({"eu-1": "http://h:1"}, routes=(routes[0], replace(routes[1], canary=canary)))
    )
    ledger = Ledger()
    ledger.of(0).take(Report(counts=[counts(1, "a"), counts(2, "b")]))
    first, models = ledger.report(table)
    assert [[c.model for c in versions] for versions in models] == [["b"], ["a"]]
    second, _ = ledger.report(table)
    assert second == first + 1


def test_models_and_tenants_that_left_are_forgotten() -> None:
    ledger = Ledger()
    ledger.of(0).take(Report(counts=[counts(1), counts(2, "gone")]))
    ledger.of(0).families = [
        ("fed_router_tenant_requests", "", "counter", [("x", {"tenant": "gone"}, 1.0)]),
        ("fed_router_version_attempts", "", "counter", [("y", {"model": "gone"}, 1.0)]),
        ("fed_router_requests", "", "counter", [("z", {"model": "gone"}, 1.0)]),
    ]
    ledger.ended(0)
    ledger.retain(tables.build(make_snapshot({"eu-1": "http://h:1"})))
    assert total(ledger) == 1
    assert [f[3] for f in ledger.families()] == [[], [], [("z", {"model": "gone"}, 1.0)]]
