import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import NotFound, PermissionDenied
from federation.contract.types import Endpoint, ModelRoute, Snapshot
from router.policy import table as tables
from router.policy.decision import Question
from router.policy.pick import decide
from router.policy.residency import assure, check, permits, permitted
from router.policy.signals import Ending, Signals
from tests.router.policy.worlds import CLUSTERS, REGIONS, Fixed, learned, snapshots


@given(snapshots())
def test_only_allowed_regions_are_left_and_all_of_them(snapshot: Snapshot) -> None:
    route = snapshot.models[0]
    kept = permitted(route, snapshot.endpoints)
    assert [e for e in snapshot.endpoints if permits(route, e)] == list(kept)
    if route.residency:
        assert all(e.region in route.residency for e in kept)
    else:
        assert kept == snapshot.endpoints


@given(
    st.lists(snapshots(), min_size=1, max_size=4),
    learned(),
    st.frozensets(st.sampled_from(REGIONS)),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=12),
)
def test_no_attempt_of_a_request_leaves_the_regions_of_its_tenant(
    snapshots: list[Snapshot], signals: Signals, regions: frozenset[str], dice: list[float]
) -> None:
    """Every attempt fails, tables are swapped between attempts, all may be ejected or absent."""
    failed: list[str] = []
    for i, roll in enumerate(dice):
        table = tables.build(snapshots[i % len(snapshots)])
        resolved = table.resolve("m")
        question = Question(resolved=resolved, now_s=100.0, failed=failed, regions=regions)
        chosen = decide(table, signals, question, Fixed(roll)).chosen
        if chosen is None:
            fitting = table.replicas("m", resolved.version, regions)
            assert all(e.cluster in failed for e in fitting)
            continue
        for allowed in (regions, resolved.route.residency):
            assert not allowed or chosen.region in allowed
        assure(resolved.route, regions, chosen)
        signals.begin(chosen.cluster, "m", resolved.version, 99.0).end(Ending.BROKEN, "gone", 99.5)
        failed.append(chosen.cluster)
    assert len(failed) == len(set(failed)) <= len(CLUSTERS)


@given(st.frozensets(st.sampled_from(REGIONS)), st.frozensets(st.sampled_from(REGIONS)))
def test_two_guarantees_without_a_common_region_are_told_apart_from_an_outage(
    regions: frozenset[str], residency: frozenset[str]
) -> None:
    route = ModelRoute(name="m", default_version=1, residency=tuple(sorted(residency)))
    everywhere = [Endpoint(cluster=r, region=r, url="http://h") for r in REGIONS]
    fitting = [e for e in permitted(route, everywhere) if not regions or e.region in regions]
    if fitting:
        check(route, regions)
    else:
        with pytest.raises(PermissionDenied) as caught:
            check(route, regions)
        assert caught.value.reason == "residency"
    for endpoint in everywhere:
        if endpoint in fitting:
            assure(route, regions, endpoint)
        else:
            with pytest.raises(PermissionDenied):
                assure(route, regions, endpoint)


def test_near_misses_name_no_model_that_is_not_visible() -> None:
    routes = tuple(ModelRoute(name=name, default_version=1) for name in ("secret", "secrets", "x"))
    table = tables.build(Snapshot(version=1, models=routes))
    with pytest.raises(NotFound) as caught:
        table.resolve("secret2", None, lambda name: name == "x")
    assert caught.value.hint == "There are: x."
