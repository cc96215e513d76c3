import random
from pathlib import Path

from federation.contract.spiffe import PeerRole
from federation.runtime.clock import ManualClock
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.state import RouterState
from tests.pki import credentials_for, make_authority
from tests.router.fakes import make_snapshot


def make() -> tuple[RouterState, Metrics]:
    state = RouterState(name="r", clock=ManualClock(), dice=random.Random(0))
    return state, Metrics(state)


def test_the_page_shows_the_state_at_the_moment() -> None:
    state, metrics = make()
    assert "fed_router_snapshot_version 0.0" in metrics.page().decode()
    state.swap(tables.build(make_snapshot({"eu-1": "http://h:1"}, version=4)))
    state.signals.probed("eu-1", 20.0, "", 0.0)
    page = metrics.page().decode()
    assert "fed_router_snapshot_version 4.0" in page
    assert 'fed_router_endpoint_healthy{cluster="eu-1",region="eu"} 1.0' in page
    assert 'fed_router_endpoint_rtt_seconds{cluster="eu-1",region="eu"} 0.02' in page
    assert 'fed_build_info{role="router",version="' in page
    for name in ("requests_total", "attempts_total", "failovers_total", "decision_seconds"):
        assert f"# HELP fed_router_{name}" in page


def test_two_routers_in_one_process_count_apart() -> None:
    (_, one), (_, other) = make(), make()
    one.failovers.inc()
    assert "fed_router_failovers_total 1.0" in one.page().decode()
    assert "fed_router_failovers_total 0.0" in other.page().decode()


def test_it_shows_when_the_certificate_expires(tmp_path: Path) -> None:
    state, metrics = make()
    name = "fed_router_certificate_expiry_timestamp_seconds"
    assert name not in metrics.page().decode()
    state.credentials = credentials_for(make_authority(tmp_path), PeerRole.ROUTER, "r")
    assert state.credentials.leaf is not None
    until_s = state.credentials.leaf.facts.not_after.timestamp()
    line = next(x for x in metrics.page().decode().splitlines() if x.startswith(name))
    assert float(line.split()[1]) == until_s


def test_attempts_that_were_answered_are_poured_with_the_others() -> None:
    _, metrics = make()
    metrics.answered += 2
    metrics.count_attempt("answered")
    metrics.count_attempt("broken")
    for _ in range(2):  # a second scrape counts nothing twice
        page = metrics.page().decode()
        assert 'fed_router_attempts_total{reason="answered"} 3.0' in page
        assert 'fed_router_attempts_total{reason="broken"} 1.0' in page
