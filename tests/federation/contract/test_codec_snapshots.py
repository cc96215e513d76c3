from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract import codec
from federation.contract.access import Access, Tenant
from federation.contract.codec_snapshots import SnapshotWriter
from federation.contract.types import Endpoint, Location, ModelRoute, Replica, Snapshot
from federation.contract.v1 import federation_pb2 as pb
from tests.depth import examples

ENDPOINTS = tuple(
    Endpoint(
        cluster=f"c{n}",
        region="eu",
        url=f"https://c{n}:7500",
        location=Location(latitude=1.5, longitude=n) if n % 2 else None,
        present=n % 3 > 0,
    )
    for n in range(6)
)
REPLICAS = tuple(
    Replica(model="m", version=v, cluster=f"c{n}", concurrency=4 * n, latency_ms=2.5 * n)
    for n in range(6)
    for v in (1, 2)
)


def plain(snapshot: Snapshot) -> pb.RouterInstruction:
    return pb.RouterInstruction(snapshot=codec.snapshot_to_proto(snapshot))


@settings(max_examples=examples(40))
@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(ENDPOINTS)), st.sets(st.sampled_from(REPLICAS))),
        max_size=5,
    )
)
def test_a_router_reads_what_it_would_read_of_each_snapshot_encoded_anew(
    told: list[tuple[set[Endpoint], set[Replica]]],
) -> None:
    writer = SnapshotWriter()
    for version, (endpoints, replicas) in enumerate(told, start=1):
        snapshot = Snapshot(
            version=version << 32,
            models=(ModelRoute(name="m", default_version=2, aliases={"best": 1}),),
            endpoints=tuple(sorted(endpoints, key=lambda e: e.cluster)),
            replicas=tuple(sorted(replicas, key=lambda r: (r.version, r.cluster))),
            access=Access(tenants=(Tenant(name="t"),)) if version % 2 else Access(),
        )
        message = pb.RouterInstruction.FromString(writer.instruction(snapshot))
        assert message == plain(snapshot)
        assert codec.snapshot_from_proto(message.snapshot) == snapshot


def test_a_snapshot_is_encoded_once_for_all_routers() -> None:
    writer = SnapshotWriter()
    snapshot = Snapshot(version=1, endpoints=ENDPOINTS, replicas=REPLICAS)
    first = writer.instruction(snapshot)
    assert writer.instruction(snapshot) is first
    assert writer.instruction(replace(snapshot, version=2)) != first


def test_large_ones_have_the_right_length() -> None:
    many = tuple(Replica(model="m" * 60, version=n, cluster="c") for n in range(3_000))
    snapshot = Snapshot(version=1, endpoints=ENDPOINTS, replicas=many)
    assert pb.RouterInstruction.FromString(SnapshotWriter().instruction(snapshot)) == plain(
        snapshot
    )
