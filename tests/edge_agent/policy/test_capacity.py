"""Devices of several inventories become one list; reports carry it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.capacity import make_report, merge, merge_devices, same_in_kind
from federation.contract.capacity import Capacity, Device, Pool
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
