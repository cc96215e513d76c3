"""Devices of several inventories become one list; reports carry it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.capacity import (
    bus_id,
    joined,
    make_report,
    merge,
    merge_devices,
    same_in_kind,
    sick,
)
from federation.contract.capacity import Capacity, Device, DeviceUse, Pool
from federation.contract.sync import Disk, SyncProgress
from federation.contract.types import (
    EngineKind,
    EngineStatus,
    Observed,
    ObservedVersion,
    VersionState,
)


def device(id: str, *, source: str = "x", healthy: bool = True) -> Device:
    return Device(id=id, vendor="v", product="p", memory_mib=1024, healthy=healthy, source=source)


def observed(
    *,
    in_flight: int = 0,
    state: VersionState = VersionState.WARMED,
    sync: SyncProgress | None = None,
) -> Observed:
    version = ObservedVersion(
        model="m", version=1, digest="d", state=state, in_flight=in_flight, sync=sync
    )
    engine = EngineStatus(kind=EngineKind.TRITON, ready=True)
    return Observed(observed_generation=1, engine=engine, versions=(version,))


def test_the_first_inventory_that_saw_a_device_tells_what_it_is() -> None:
    merged = merge_devices(
        [[device("a", source="nvml")], [device("a", source="declared"), device("b")]]
    )
    assert [(d.id, d.source) for d in merged] == [("a", "nvml"), ("b", "x")]


@pytest.mark.parametrize("first_healthy", [True, False])
def test_a_device_that_anyone_calls_sick_is_sick(first_healthy: bool) -> None:
    merged = merge_devices(
        [[device("a", healthy=first_healthy)], [device("a", healthy=not first_healthy)]]
    )
    assert [d.healthy for d in merged] == [False]


def test_devices_without_an_id_are_all_kept() -> None:
    sick = device("", healthy=False)
    assert merge_devices([[device(""), device("")], [sick]]) == (device(""), device(""), sick)


def test_later_inventories_tell_what_the_first_does_not_know() -> None:
    first = replace(device("a", source="nvml"), use=DeviceUse(memory_mib=7, utilization=0.5))
    other = Device(
        id="a",
        vendor="v",
        product="other",
        memory_mib=1,
        node="n",
        architecture="hopper",
        compute_capability="9.0",
        use=DeviceUse(memory_mib=9, power_w=100.0),
    )
    assert merge_devices([[first], [other]]) == (
        replace(
            first,
            node="n",
            architecture="hopper",
            compute_capability="9.0",
            use=DeviceUse(memory_mib=7, utilization=0.5, power_w=100.0),
        ),
    )
    assert joined(replace(first, use=None), other).use == other.use
    assert joined(replace(first, product="", memory_mib=0), other).product == "other"


def test_all_reasons_of_a_sick_device_are_told() -> None:
    sick_device = device("a", healthy=False)
    one, two = replace(sick_device, reason="hot"), replace(sick_device, reason="lost")
    assert joined(one, two).reason == "hot; lost"
    assert joined(one, one).reason == "hot"
    assert joined(device("a"), two).reason == "lost"
    assert joined(replace(device("a"), reason="a note"), two).reason == "lost"


def part(id: str, *, profile: str = "1g.5gb", parent: str = "GPU") -> Device:
    return replace(device(id), parent=parent, profile=profile)


def test_a_partition_under_another_name_is_found_by_its_profile() -> None:
    nvml = [part("MIG-1"), part("MIG-2", profile="2g.10gb"), part("MIG-3", profile="2g.10gb")]
    busy = DeviceUse(utilization=0.5)
    dcgm = [
        replace(part("GPU/gi-7"), use=busy),
        replace(part("GPU/gi-8", profile="2g.10gb"), use=busy),
        replace(part("OTHER/gi-7", parent="OTHER"), use=busy),
    ]
    merged = merge_devices([nvml, dcgm])
    assert [(d.id, d.use) for d in merged] == [
        ("MIG-1", busy),
        ("MIG-2", None),
        ("MIG-3", None),
        ("OTHER/gi-7", busy),
    ]


def test_a_gpu_and_its_partitions_are_not_both_counted() -> None:
    assert merge_devices([[part("MIG-1")], [device("GPU")]]) == (part("MIG-1"),)
    assert merge_devices([[device("GPU")], [part("MIG-1")]]) == (device("GPU"),)
    both = merge_devices([[device("GPU"), part("MIG-1")]])
    assert both == (device("GPU"), part("MIG-1")), "one inventory may list both"


def test_some_inventories_only_tell_more() -> None:
    busy = DeviceUse(utilization=0.5)
    seen = Capacity(devices=(device("a"), device("")))
    telling = Capacity(
        devices=tuple(replace(device(id), use=busy) for id in ("a", "b")), reason="late", age_s=9.0
    )
    merged = merge([seen], telling=[telling])
    assert [(d.id, d.use) for d in merged.devices] == [("a", busy), ("", None)]
    assert (merged.reason, merged.age_s) == ("late", 0.0)
    assert merged.pools[0].total == 2


def test_devices_are_known_by_their_bus_ids_too() -> None:
    driver = Capacity(devices=(device("GPU-1", source="nvml"),))
    file = Capacity(devices=(device("00000000:2F:00.0", healthy=False), device("0000:3f:00.0")))
    merged = merge([driver, file], names={"0000:2f:00.0": "GPU-1"})
    assert [(d.id, d.source, d.healthy) for d in merged.devices] == [
        ("GPU-1", "nvml", False),
        ("0000:3f:00.0", "x", True),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00000000:2F:00.0", "0000:2f:00.0"),
        ("0000:2f:00.0", "0000:2f:00.0"),
        ("2F:00.0", "0000:2f:00.0"),
        ("00010000:01:00.1", "10000:01:00.1"),
        ("GPU-1", "GPU-1"),
        ("", ""),
    ],
)
def test_bus_ids_have_one_form(text: str, expected: str) -> None:
    assert bus_id(text) == expected


def test_devices_that_nobody_can_look_into_are_sick() -> None:
    busy = replace(device("a"), use=DeviceUse(utilization=0.5))
    known = replace(device("b", healthy=False), reason="hot")
    assert [(d.healthy, d.reason, d.use) for d in sick([busy, known], "silent")] == [
        (False, "silent", None),
        (False, "hot", None),
    ]


@given(st.lists(st.lists(st.sampled_from("abc").map(device))))
def test_merging_loses_nothing_and_repeats_nothing(seen: list[list[Device]]) -> None:
    ids = [d.id for d in merge_devices(seen)]
    assert len(ids) == len(set(ids))
    assert set(ids) == {d.id for inventory in seen for d in inventory}


def test_a_report_carries_all() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    report = make_report(
        cluster="c",
        stamp=(3, 7),
        capacity=Capacity(devices=(device("a"),), observed_at=now),
        observed=observed(),
        url="http://h:1",
        disk=Disk(used_bytes=1, free_bytes=2),
    )
    assert report.disk == Disk(used_bytes=1, free_bytes=2)
    assert (report.epoch, report.sequence, report.url) == (3, 7, "http://h:1")
    assert (report.capacity.gpus, report.capacity.observed_at) == (1, now)
    assert report.observed == observed()


def test_being_busy_is_no_change() -> None:
    assert same_in_kind(observed(in_flight=1), observed(in_flight=9))
    moving = SyncProgress(total_bytes=9, done_bytes=3)
    assert same_in_kind(observed(), observed(sync=moving)), "progress waits for the next report"
    assert not same_in_kind(observed(), observed(state=VersionState.DRAINING))
    assert not same_in_kind(None, observed())


def test_one_picture_has_the_schedulers_pools_or_those_of_the_devices() -> None:
    seen = Capacity(devices=(device("a"), device("b", healthy=False)), reason="partly")
    scheduler = Capacity(
        pools=(Pool(node="n", resource="nvidia.com/gpu", vendor="nvidia", total=8),),
        age_s=3.0,
        waiting=2,
    )
    (pool,) = merge([seen]).pools
    assert (pool.total, pool.allocatable, pool.free) == (2, 1, 1)
    both = merge([seen, scheduler])
    assert both.pools == scheduler.pools
    assert (both.reason, both.age_s, both.waiting) == ("partly", 3.0, 2)
