from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane


def test_events_are_a_table_in_their_order(fed: Fed, plane: FakeControlPlane) -> None:
    for number in (1, 2):
        status = {
            "at": f"2026-01-01T00:00:0{number}Z",
            "actor": "admin/local",
            "kind": "Cluster",
            "name": "eu-west",
            "reason": "ClusterJoined",
            "message": f"it joined\nwith epoch {number}",
        }
        plane.put("events", str(number), {}, status)
    head, *lines = fed("events").out.splitlines()
    assert head.split() == ["AT", "OBJECT", "REASON", "ACTOR", "MESSAGE"]
    assert lines[1].split()[:4] == [
        "2026-01-01T00:00:02Z",
        "cluster/eu-west",
        "ClusterJoined",
        "admin/local",
    ]
    assert lines[1].endswith("it joined with epoch 2")
    assert fed("get", "ev", "2").out.splitlines()[1] == lines[1]
