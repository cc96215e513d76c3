from hypothesis import given

from federation.contract.types import Snapshot
from router.policy.residency import permits, permitted
from tests.router.policy.worlds import snapshots


@given(snapshots())
def test_only_allowed_regions_are_left_and_all_of_them(snapshot: Snapshot) -> None:
    route = snapshot.models[0]
    kept = permitted(route, snapshot.endpoints)
    assert [e for e in snapshot.endpoints if permits(route, e)] == list(kept)
    if route.residency:
        assert all(e.region in route.residency for e in kept)
    else:
        assert kept == snapshot.endpoints
