from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from federation.contract import codec_sync
from federation.contract.sync import Day, Disk, SyncPeer, SyncProgress, SyncSpec, SyncWindow
from federation.contract.types import Urgency
from federation.contract.v1 import federation_pb2 as pb

rates = st.floats(0, 1e9)
counts = st.integers(0, 2**63)
words = st.text(max_size=8)
windows = st.builds(
    SyncWindow,
    start=words,
    end=words,
    days=st.lists(st.sampled_from(Day), max_size=7).map(tuple),
    max_mbytes_per_second=rates,
)
specs = st.builds(
    SyncSpec,
    max_mbytes_per_second=rates,
    peer_max_mbytes_per_second=rates,
    windows=st.lists(windows, max_size=3).map(tuple),
    time_zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    disk_budget_gib=rates,
    rollback_waits=st.booleans(),
)
progress = st.builds(
    SyncProgress,
    total_bytes=counts,
    reused_bytes=counts,
    from_origin_bytes=counts,
    from_peers_bytes=counts,
    done_bytes=counts,
    bytes_per_second=rates,
    eta_s=rates,
    waiting=words,
)
peers = st.lists(
    st.builds(SyncPeer, cluster=words, url=words, digests=st.lists(words, max_size=3).map(tuple)),
    max_size=3,
).map(tuple)
disks = st.builds(Disk, used_bytes=counts, free_bytes=counts, budget_bytes=counts)


def _over_the_wire(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


@given(specs, progress, peers, disks)
def test_everything_comes_back_as_it_went(
    spec: SyncSpec, done: SyncProgress, others: tuple[SyncPeer, ...], disk: Disk
) -> None:
    codec = codec_sync
    assert codec.settings_from_proto(_over_the_wire(codec.settings_to_proto(spec))) == spec
    assert codec.progress_from_proto(_over_the_wire(codec.progress_to_proto(done))) == done
    assert codec.peers_from_proto(_over_the_wire(codec.peers_to_proto(others))) == others
    assert codec.disk_from_proto(_over_the_wire(codec.disk_to_proto(disk))) == disk
    assert codec.progress_to_proto(None) is None


def test_urgencies_come_back_and_an_unknown_one_is_normal() -> None:
    for urgency in Urgency:
        assert codec_sync.urgency_from_proto(codec_sync.urgency_to_proto(urgency)) is urgency
    assert codec_sync.urgency_from_proto(99) is Urgency.NORMAL
    assert Urgency.PREFETCH < Urgency.NORMAL < Urgency.ROLLBACK


def test_days_of_a_newer_peer_are_passed_over() -> None:
    message = pb.SyncSettings(windows=[pb.SyncWindow(start="1", end="2", days=["mon", "feast"])])
    spec = codec_sync.settings_from_proto(message)
    assert spec.windows[0].days == (Day.MON,)
    assert spec.time_zone == "UTC"
