"""What goes over the wire comes back equal; what a newer peer adds is tolerated."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract import codec
from federation.contract import types as t
from federation.contract.v1 import federation_pb2 as pb
from tests.depth import examples
from tests.federation.contract.test_codec_capacity import calibrations, capacities, resources
from tests.federation.contract.test_codec_sync import disks, progress
from tests.federation.contract.test_codec_trust import accesses

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
numbers = st.integers(0, 2**63)
small = st.integers(0, 2**31)
locations = st.builds(t.Location, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))
instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001
    lambda d: d.replace(microsecond=d.microsecond // 1000 * 1000, tzinfo=UTC)
)
observed = st.builds(
    t.Observed,
    observed_generation=numbers,
    engine=st.builds(
        t.EngineStatus,
        kind=st.sampled_from(t.EngineKind),
        version=names,
        ready=st.booleans(),
        reason=names,
    ),
    versions=st.lists(
        st.builds(
            t.ObservedVersion,
            model=names,
            version=numbers,
            digest=names,
            state=st.sampled_from(t.VersionState),
            reason=names,
            replicas=small,
            in_flight=small,
            protocol=st.sampled_from(t.ModelProtocol),
            sync=st.none() | progress,
            queued=st.none() | small,
            rate=st.floats(0, 1e6),
            latency_ms=st.floats(0, 1e6),
            calibration=st.none() | calibrations,
        ),
        max_size=3,
    ).map(tuple),
)
reports = st.builds(
    t.Report,
    cluster=names,
    epoch=numbers,
    sequence=numbers,
    capacity=capacities,
    observed=observed,
    disk=disks,
    url=names,
)
assignments = st.builds(
    t.Assignment,
    cluster=names,
    generation=numbers,
    versions=st.lists(
        st.builds(
            t.AssignedVersion,
            model=names,
            version=numbers,
            digest=names,
            replicas=small,
            max_replicas=small,
            stage_only=st.booleans(),
            urgency=st.sampled_from(t.Urgency),
            needs=resources,
        ),
        max_size=3,
    ).map(tuple),
)
snapshots = st.builds(
    t.Snapshot,
    version=numbers,
    models=st.lists(
        st.builds(
            t.ModelRoute,
            name=names,
            default_version=numbers,
            protocol=st.sampled_from(t.ModelProtocol),
            aliases=st.dictionaries(names, numbers, max_size=2),
            residency=st.lists(names, max_size=2).map(tuple),
            dormant=st.lists(numbers, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    endpoints=st.lists(
        st.builds(
            t.Endpoint,
            cluster=names,
            region=names,
            url=names,
            location=st.none() | locations,
            present=st.booleans(),
            connectivity=st.sampled_from([t.Connectivity.DIAL, t.Connectivity.REVERSE]),
        ),
        max_size=2,
    ).map(tuple),
    replicas=st.lists(
        st.builds(t.Replica, model=names, version=numbers, cluster=names), max_size=2
    ).map(tuple),
    access=accesses,
    routers=st.lists(
        st.builds(t.RouterSite, name=names, url=names, location=st.none() | locations), max_size=2
    ).map(tuple),
)


def test_connectivity_of_an_older_peer_is_dial_and_of_a_newer_one_unknown() -> None:
    assert codec.connectivity_from_proto(pb.CONNECTIVITY_UNSPECIFIED) is t.Connectivity.DIAL
    assert codec.connectivity_from_proto(77) is t.Connectivity.UNKNOWN


@settings(max_examples=examples(40))
@given(reports)
def test_reports_round_trip(report: t.Report) -> None:
    wire = codec.report_to_proto(report).SerializeToString()
    assert codec.report_from_proto(pb.Report.FromString(wire)) == report


@given(assignments)
def test_assignments_round_trip(assignment: t.Assignment) -> None:
    wire = codec.assignment_to_proto(assignment).SerializeToString()
    assert codec.assignment_from_proto(pb.Assignment.FromString(wire)) == assignment


@given(snapshots)
def test_snapshots_round_trip(snapshot: t.Snapshot) -> None:
    wire = codec.snapshot_to_proto(snapshot).SerializeToString()
    assert codec.snapshot_from_proto(pb.Snapshot.FromString(wire)) == snapshot


def test_an_enum_value_of_a_newer_peer_becomes_unknown() -> None:
    message = pb.Report()
    message.observed.engine.kind = 99  # type: ignore[assignment]  # open enum
    version = message.observed.versions.add(model="m")
    version.state = 99  # type: ignore[assignment]  # open enum
    version.protocol = 99  # type: ignore[assignment]  # open enum
    report = codec.report_from_proto(pb.Report.FromString(message.SerializeToString()))
    assert report.observed.engine.kind is t.EngineKind.UNKNOWN
    assert report.observed.versions[0].state is t.VersionState.UNKNOWN
    assert report.observed.versions[0].protocol is t.ModelProtocol.UNKNOWN


def test_a_field_of_a_newer_peer_is_ignored() -> None:
    unknown_field = bytes([0xFA, 0x3F, 0x03]) + b"new"  # field 1023, length-delimited
    wire = pb.Report(cluster="c", epoch=3).SerializeToString() + unknown_field
    assert codec.report_from_proto(pb.Report.FromString(wire)).epoch == 3


def test_every_enum_member_has_a_wire_value() -> None:
    for kind in t.EngineKind:
        assert codec.engine_from_proto(codec.engine_to_proto(kind)) is kind


def test_an_agents_clock_may_be_absurd() -> None:
    message = pb.Report(capacity=pb.Capacity(observed_at_unix_ms=2**62))
    assert codec.report_from_proto(message).capacity.observed_at is None
