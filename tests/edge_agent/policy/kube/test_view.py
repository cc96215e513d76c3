import pytest

from tests.edge_agent.policy.kube.fixture_files import Case, cases, listed

CASES = [pytest.param(case, id=case.name) for case in cases()]


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_cluster_has_what_its_vendors_documents_say(case: Case) -> None:
    assert case.about
    assert case.source
    seen = listed(case).capacity()
    assert seen.pools == case.pools
    assert tuple(device.id for device in seen.devices) == case.devices
    assert tuple(d.id for d in seen.devices if not d.healthy) == case.unhealthy
    assert seen.waiting == case.waiting
    assert seen.reason == case.reason
    if case.largest_block is not None:
        assert seen.largest_block == case.largest_block


def test_there_are_enough_recorded_clusters() -> None:
    assert len(cases()) >= 40
