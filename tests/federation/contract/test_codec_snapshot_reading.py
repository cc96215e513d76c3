import random
from dataclasses import replace

import pytest

from benchmarks.snapshot import fleet, moved
from federation.contract import codec
from federation.contract.access import Access, Tenant
from federation.contract.codec_snapshot_reading import SLICE, SnapshotReader
from federation.contract.codec_snapshots import SnapshotWriter
from federation.contract.errors import Invalid
from federation.contract.slices import finish
from federation.contract.types import Connectivity, Endpoint, RouterSite, Snapshot
from federation.contract.v1 import federation_pb2 as pb


def wire(snapshot: Snapshot) -> bytes:
    whole = SnapshotWriter().instruction(snapshot)
    parts = pb.RouterInstructionParts.FromString(whole)
    assert pb.RouterInstruction.FromString(whole).snapshot.version == snapshot.version
    return parts.snapshot


def test_what_is_read_is_what_was_written_and_the_same_stays_the_same() -> None:
    reader, dice = SnapshotReader(), random.Random(2)
    tenant = Access(pepper="00", tenants=(Tenant(name="acme"),))
    odd = Endpoint(cluster="odd", region="x", url="", connectivity=Connectivity.REVERSE)
    snapshot = fleet(30, 4, 2)
    snapshot = replace(
        snapshot,
        endpoints=(*snapshot.endpoints, odd),
        access=tenant,
        routers=(RouterSite(name="r1", url="https://r1"),),
    )
    first = finish(reader.read(wire(snapshot)))
    assert first == snapshot
    after = moved(snapshot, 3, dice)
    second = finish(reader.read(wire(after)))
    assert second == after
    kept = sum(a is b for a, b in zip(first.endpoints, second.endpoints, strict=True))
    assert kept == len(first.endpoints) - 3
    assert first.access is second.access
    assert reader.decoded == 4 + 31 + 60 + 3 + 3
    assert reader.version == second.version


def test_it_is_read_in_slices() -> None:
    reading = SnapshotReader().read(wire(fleet(3 * SLICE, 2, 1)))
    assert sum(1 for _ in reading) > 6


def test_it_agrees_with_the_codec_on_any_bytes() -> None:
    data = wire(fleet(3, 2, 1))
    assert finish(SnapshotReader().read(data)) == codec.snapshot_from_proto(
        pb.Snapshot.FromString(data)
    )
    assert finish(SnapshotReader().read(b"")) == Snapshot(version=0)
    for broken in (b"\xff", data[:-1], pb.SnapshotParts(replicas=[b"\xff"]).SerializeToString()):
        with pytest.raises(Invalid, match="no snapshot"):
            finish(SnapshotReader().read(broken))
