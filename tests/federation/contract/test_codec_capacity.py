"""Capacities and requirements come back equal from the wire."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract import codec_capacity as codec
from federation.contract.capacity import (
    Calibration,
    Capacity,
    Device,
    DeviceUse,
    Pool,
    Resources,
    Sharing,
)
from federation.contract.v1 import federation_pb2 as pb

names = st.text("abcdefghijklmnopqrstuvwxyz-.", max_size=12)
small = st.integers(0, 2**31)
floats = st.floats(0, 1e6, width=32)
instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001
    lambda d: d.replace(microsecond=d.microsecond // 1000 * 1000, tzinfo=UTC)
)
uses = st.builds(
    DeviceUse,
    memory_mib=st.none() | small,
    utilization=st.none() | floats,
    temperature_c=st.none() | floats,
    power_w=st.none() | floats,
)
devices = st.builds(
    Device,
    id=names,
    vendor=names,
    product=names,
    memory_mib=small,
    healthy=st.booleans(),
    source=names,
    reason=names,
    node=names,
    parent=names,
    profile=names,
    architecture=names,
    compute_capability=names,
    use=st.none() | uses,
)
pools = st.builds(
    Pool,
    node=names,
    resource=names,
    vendor=names,
    product=names,
    memory_mib=small,
    architecture=names,
    compute_capability=names,
    profile=names,
    sharing=st.sampled_from([kind for kind in Sharing if kind is not Sharing.UNKNOWN]),
    physical=small,
    total=small,
    allocatable=small,
    free=small,
    ours=small,
    reason=names,
)
capacities = st.builds(
    Capacity,
    devices=st.lists(devices, max_size=3).map(tuple),
    pools=st.lists(pools, max_size=3).map(tuple),
    observed_at=st.none() | instants,
    age_s=floats,
    reason=names,
    waiting=small,
)
resources = st.builds(
    Resources,
    gpus=small,
    memory_mib=small,
    fraction=st.floats(0, 1),
    vendor=names,
    products=st.lists(names, max_size=2).map(tuple),
    architecture=names,
    min_compute_capability=names,
    profile=names,
    exclusive=st.booleans(),
)
calibrations = st.builds(
    Calibration, per_second=floats, latency_ms=floats, concurrency=small, unit=names
)


@given(capacities)
def test_a_capacity_comes_back_equal(capacity: Capacity) -> None:
    data = codec.capacity_to_proto(capacity).SerializeToString()
    assert codec.capacity_from_proto(pb.Capacity.FromString(data)) == capacity


@given(resources)
def test_requirements_come_back_equal(needs: Resources) -> None:
    message = codec.resources_to_proto(needs) or pb.Resources()
    data = message.SerializeToString()
    assert codec.resources_from_proto(pb.Resources.FromString(data)) == needs


@given(calibrations)
def test_a_calibration_comes_back_equal(calibration: Calibration) -> None:
    message = codec.calibration_to_proto(calibration)
    assert message is not None
    data = message.SerializeToString()
    assert codec.calibration_from_proto(pb.Calibration.FromString(data)) == calibration


def test_what_is_absent_costs_no_bytes() -> None:
    assert codec.resources_to_proto(Resources()) is None
    assert codec.calibration_to_proto(None) is None
    device = Device(id="", vendor="", product="", memory_mib=0)
    capacity = codec.capacity_to_proto(Capacity(devices=(device,)))
    assert capacity.devices[0].SerializeToString() == b""


@pytest.mark.parametrize("value", [4, 99])
def test_a_sharing_of_a_newer_peer_is_unknown(value: int) -> None:
    message = pb.Capacity(pools=[pb.Pool()])
    message.pools[0].sharing = value  # type: ignore[assignment]
    (pool,) = codec.capacity_from_proto(message).pools
    assert pool.sharing is Sharing.UNKNOWN
