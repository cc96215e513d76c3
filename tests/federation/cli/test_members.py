import pytest

from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane


@pytest.mark.parametrize("kind", ["cluster", "router"])
def test_accept_and_revoke(fed: Fed, plane: FakeControlPlane, kind: str) -> None:
    plane.put(f"{kind}s", "edge-7", {"region": "eu"})
    assert fed(kind, "accept", "edge-7").out == f"{kind}/edge-7 accepted\n"
    revoked = fed(kind, "revoke", "edge-7", "--yes")
    assert revoked.out == f"{kind}/edge-7 revoked\n"
    assert f"fed {kind} register edge-7 --rejoin" in revoked.err
    status = plane.objects[f"{kind}s"]["edge-7"]["status"]
    assert (status["accepted"], status["revoked"]) == (True, True)
    assert fed(kind, "accept", "nobody").code == 3
    assert fed(kind, "revoke", "nobody").code == 3
