from prometheus_client import CollectorRegistry, generate_latest

from federation.contract.rollout import CanaryRoute
from federation.contract.types import ModelRoute, Snapshot
from router.metrics.versions import VersionCollector
from router.policy import table as tables
from router.policy.table import Resolved
from tests.router.test_counting import counting, option, resolved


def test_each_version_has_its_series_and_says_whether_it_is_a_canary() -> None:
    counts, registry = counting(), CollectorRegistry()
    registry.register(VersionCollector(counts))
    for status in (200, 500, 429, 504):
        counts.attempted(resolved(), option(2), status, 0.01)
    counts.attempted(resolved(), option(1, "us"), 200, 0.01)
    page = generate_latest(registry).decode()
    two = 'model="m",region="eu",version="2"'
    assert f'fed_router_version_attempts_total{{canary="yes",{two}}} 4.0' in page
    assert f'fed_router_version_failures_total{{canary="yes",kind="error",{two}}} 2.0' in page
    assert f'fed_router_version_failures_total{{canary="yes",kind="refused",{two}}} 1.0' in page
    assert f'fed_router_version_failures_total{{canary="yes",kind="slow",{two}}} 1.0' in page
    assert 'attempts_total{canary="no",model="m",region="us",version="1"} 1.0' in page
    assert 'canary_percent{model="m",region="eu",rollout="ro",version="2"} 25.0' in page
    promoted = ModelRoute(name="m", default_version=2)
    counts.retain(tables.build(Snapshot(version=2, models=(promoted,))))
    page = generate_latest(registry).decode()
    assert f'fed_router_version_attempts_total{{canary="no",{two}}} 4.0' in page
    assert "canary_percent{" not in page
    counts.retain(tables.build(Snapshot(version=3)))
    assert 'model="m"' not in generate_latest(registry).decode()


def test_a_region_without_requests_has_its_share_only() -> None:
    route = ModelRoute(
        name="n",
        default_version=1,
        canary=CanaryRoute(rollout="next", version=3, weights={"ap": 5.0}),
    )
    counts, registry = counting(route), CollectorRegistry()
    registry.register(VersionCollector(counts))
    page = generate_latest(registry).decode()
    assert 'canary_percent{model="n",region="ap",rollout="next",version="3"} 5.0' in page
    assert "attempts_total{" not in page
    counts.attempted(Resolved(route=route, version=1), option(1), 200, 0.01)
    assert "attempts_total{" in generate_latest(registry).decode()
