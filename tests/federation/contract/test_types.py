"""The snapshot's consistency check, and the few computed fields."""

from federation.contract.capacity import Capacity, Device
from federation.contract.types import Endpoint, FileEntry, Manifest, ModelRoute, Replica, Snapshot

ENDPOINT = Endpoint(cluster="eu-west", region="eu-west", url="http://10.0.0.1:7500")
ROUTE = ModelRoute(name="filetype", default_version=1)
REPLICA = Replica(model="filetype", version=1, cluster="eu-west")


def test_a_whole_snapshot_has_no_problems() -> None:
    snapshot = Snapshot(version=1, models=(ROUTE,), endpoints=(ENDPOINT,), replicas=(REPLICA,))
    assert snapshot.problems() == ()


def test_each_dangling_reference_is_named() -> None:
    assert Snapshot(version=1, endpoints=(ENDPOINT,), replicas=(REPLICA,)).problems() == (
        "replica of unknown model 'filetype'",
    )
    assert Snapshot(version=1, models=(ROUTE,), replicas=(REPLICA,)).problems() == (
        "replica of 'filetype' at unknown cluster 'eu-west'",
    )


def test_duplicates_are_named() -> None:
    twice = Snapshot(version=1, models=(ROUTE, ROUTE), endpoints=(ENDPOINT, ENDPOINT))
    assert twice.problems() == ("two endpoints of one cluster", "two routes of one model")


def test_only_healthy_devices_count_as_gpus() -> None:
    good = Device(id="a", vendor="nvidia", product="L40S", memory_mib=46_068)
    bad = Device(id="b", vendor="nvidia", product="L40S", memory_mib=46_068, healthy=False)
    assert Capacity(devices=(good, bad)).gpus == 1


def test_manifest_size_is_the_sum_of_its_files() -> None:
    files = tuple(FileEntry(path=p, size=n, blake3="", sha256="") for p, n in (("a", 3), ("b", 4)))
    assert Manifest(model="m", files=files).size == 7
