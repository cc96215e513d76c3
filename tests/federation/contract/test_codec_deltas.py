"""Reports that lean on earlier ones: they tell the same, and a thousand devices stay small."""

import random
import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract import codec_capacity
from federation.contract.capacity import Capacity, Device, DeviceUse, Pool, pools_of
from federation.contract.codec_deltas import CapacityReader, CapacityWriter, Told
from federation.contract.device_use import use_columns, with_use
from federation.contract.errors import Invalid
from federation.contract.v1 import federation_pb2 as pb
from tests.depth import examples
from tests.federation.contract.test_codec_capacity import capacities, pools


def heard(reader: CapacityReader, sequence: int, message: pb.CompactCapacity) -> Told | None:
    report = pb.Report(sequence=sequence, compact=message)
    return reader.read(pb.Report.FromString(report.SerializeToString()))


def expected(capacity: Capacity) -> Capacity:
    """The capacity as it is told: use rounded, pools as they must be if none were told."""
    resting = capacity.at_rest().devices
    return replace(
        capacity,
        devices=with_use(resting, use_columns(capacity.devices)),
        pools=capacity.pools or pools_of(resting),
    )


def sound(pool: Pool) -> Pool:
    """A pool whose numbers add up."""
    allocatable = min(pool.allocatable, pool.total)
    free = min(pool.free, allocatable)
    return replace(
        pool, allocatable=allocatable, free=free, ours=min(pool.ours, allocatable - free)
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Capacity]:
    """What an agent sees one after the other: mostly small changes of what was before."""
    now = draw(capacities)
    seen = [now]
    for _ in range(draw(st.integers(0, 5))):
        match draw(st.sampled_from(["use", "free", "age", "sick", "other", "same"])):
            case "use":
                use = DeviceUse(memory_mib=draw(st.integers(0, 99)))
                now = replace(now, devices=tuple(replace(d, use=use) for d in now.devices))
            case "free":
                free = draw(st.integers(0, 9))
                now = replace(now, pools=tuple(replace(p, free=free) for p in now.pools))
            case "age":
                now = replace(now, age_s=draw(st.floats(0, 99)), waiting=draw(st.integers(0, 9)))
            case "sick":
                now = replace(now, devices=tuple(replace(d, healthy=False) for d in now.devices))
            case "other":
                now = draw(capacities)
            case _:
                pass
        seen.append(now)
    return [replace(c, pools=tuple(map(sound, c.pools))) for c in seen]


@given(histories())
@settings(max_examples=examples(60))
def test_any_sequence_of_capacities_comes_back(history: list[Capacity]) -> None:
    writer, reader = CapacityWriter(), CapacityReader()
    for sequence, capacity in enumerate(history, 1):
        told = heard(reader, sequence, writer.write(sequence, capacity))
        assert told is not None
        read = replace(told.capacity, devices=with_use(told.capacity.devices, told.use))
        assert read == expected(capacity)
        assert writer.is_told(capacity)


@settings(max_examples=examples(50))
@given(histories(), st.sets(st.integers(1, 6)))
def test_a_base_that_is_not_there_is_asked_for_and_never_guessed(
    history: list[Capacity], lost: set[int]
) -> None:
    writer, reader = CapacityWriter(), CapacityReader()
    for sequence, capacity in enumerate(history, 1):
        message = writer.write(sequence, capacity)
        if sequence in lost:  # as if the far end had forgotten
            reader = CapacityReader()
        told = heard(reader, sequence, message)
        if told is None:
            writer.forget()
            assert not writer.is_told(capacity)
        else:
            assert told.capacity.devices == expected(capacity).at_rest().devices


def test_what_only_changes_in_use_leans_on_the_whole_report() -> None:
    writer, device = CapacityWriter(), Device(id="a", vendor="v", product="p", memory_mib=1)
    first = writer.write(7, Capacity(devices=(device,), pools=pools_of((device,))))
    assert (first.base, len(first.devices.ids.rest), len(first.pools.total)) == (0, 1, 0)
    busy = replace(device, use=DeviceUse(utilization=0.5))
    later = writer.write(8, Capacity(devices=(busy,), pools=pools_of((device,))))
    assert (later.base, later.HasField("devices"), later.use.utilization[0]) == (7, False, 501)
    assert not later.free
    sick = replace(device, healthy=False, reason="XID 79")
    third = writer.write(9, Capacity(devices=(sick,), pools=pools_of((sick,))))
    assert (third.base, third.devices.kinds[0].reason) == (0, "XID 79")


def test_pools_that_follow_from_devices_are_made_here() -> None:
    device = Device(id="a", vendor="v", product="p", memory_mib=1, use=DeviceUse(memory_mib=3))
    old = codec_capacity.capacity_to_proto(Capacity(devices=(device,)))  # of an older agent
    told = CapacityReader().read(pb.Report(sequence=1, capacity=old))
    assert told is not None
    assert told.capacity.devices == (replace(device, use=None),)
    assert [(p.total, p.free) for p in told.capacity.pools] == [(1, 1)]
    assert told.use.at(0) == DeviceUse(memory_mib=3)


def test_equal_numbers_make_no_new_pools() -> None:
    pool = Pool(node="n", resource="r", vendor="v", total=8, allocatable=8, free=3)
    writer, reader = CapacityWriter(), CapacityReader()
    told = [heard(reader, n, writer.write(n, Capacity(pools=(pool,)))) for n in (1, 2)]
    assert told[0] is not None
    assert told[1] is not None
    assert told[0].capacity.pools is told[1].capacity.pools


@settings(max_examples=examples(50))
@given(st.lists(pools, min_size=1, max_size=3))
def test_numbers_that_contradict_each_other_are_cut(drawn: list[Pool]) -> None:
    told = heard(CapacityReader(), 1, CapacityWriter().write(1, Capacity(pools=tuple(drawn))))
    assert told is not None
    for pool in told.capacity.pools:
        assert 0 <= pool.free <= pool.allocatable <= pool.total
        assert 0 <= pool.ours <= pool.allocatable - pool.free


def test_a_malformed_report_leaves_no_base() -> None:
    reader = CapacityReader()
    writer, device = CapacityWriter(), Device(id="a", vendor="v", product="p", memory_mib=1)
    whole = writer.write(1, Capacity(devices=(device,)))
    assert heard(reader, 1, whole)
    whole.devices.kind.extend([5])
    with pytest.raises(Invalid):
        heard(reader, 2, whole)
    assert heard(reader, 3, writer.write(3, Capacity(devices=(device,)))) is None
    counted = CapacityWriter().write(1, Capacity(pools=(Pool(node="", resource="r", vendor=""),)))
    counted.free.append(1)
    with pytest.raises(Invalid, match="not as many"):
        heard(CapacityReader(), 1, counted)


def thousand(dice: random.Random, per_node: int) -> Capacity:
    """A thousand GPUs that are as different as they get: UUIDs, cloud's node names, use."""
    names = [
        f"gke-prod-eu-west4-gpu-h100-{dice.getrandbits(32):08x}-x{n:03d}.internal"
        for n in range(1000 // per_node)
    ]
    devices = tuple(
        Device(
            id=f"GPU-{uuid.UUID(int=dice.getrandbits(128), version=4)}",
            vendor="nvidia",
            product="NVIDIA H100 80GB HBM3",
            memory_mib=81_559,
            source="nvml",
            node=names[n // per_node],
            architecture="hopper",
            compute_capability="9.0",
            use=DeviceUse(
                memory_mib=dice.randrange(80_000),
                utilization=dice.random(),
                temperature_c=dice.uniform(30, 110),
                power_w=dice.uniform(60, 1200),
            ),
        )
        for n in range(1000)
    )
    return Capacity(devices=devices, pools=pools_of(devices), reason="a sentence", age_s=3.5)


@pytest.mark.parametrize("per_node", [1, 4, 8])
def test_a_thousand_devices_are_told_in_64_kib_and_followed_in_10(per_node: int) -> None:
    dice, writer, whole = random.Random(1), CapacityWriter(), 0
    capacity = thousand(dice, per_node)
    scheduled = tuple(  # as a scheduler counts them: nothing follows from the devices
        replace(p, resource="nvidia.com/gpu", free=0, ours=p.total) for p in capacity.pools
    )
    for told in (capacity, replace(capacity, pools=scheduled)):
        writer.forget()
        whole = writer.write(1, told).ByteSize()
        delta = writer.write(2, told).ByteSize()
        assert whole < 64 * 1024
        assert delta < 10 * 1024
    plain = codec_capacity.capacity_to_proto(capacity).ByteSize()
    assert plain > 2.5 * whole
