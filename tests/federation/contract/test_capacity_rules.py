"""What of an agent's word is taken."""

import math
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from federation.contract.capacity import Calibration, Device, Pool
from federation.contract.capacity_rules import (
    MAX_AGE_S,
    MAX_DEVICES,
    MAX_MEMORY_MIB,
    checked_age,
    checked_devices,
    checked_pools,
    checked_version,
)
from federation.contract.errors import Invalid
from federation.contract.types import ObservedVersion, VersionState

T = TypeVar("T", Device, Pool)
DEVICE = Device(id="a", vendor="v", product="p", memory_mib=1)
POOL = Pool(node="n", resource="gpu", vendor="v", total=8, allocatable=8, free=3, ours=5)


def _renamed(thing: T, name: str) -> T:
    """The same with a text that is too long."""
    changes: dict[str, Any] = {name: "x" * 513}
    return replace(thing, **changes)


def test_what_is_sound_is_taken_as_it_is() -> None:
    assert checked_devices((DEVICE,)) == (DEVICE,)
    assert checked_pools((POOL,)) == (POOL,)


def test_too_many_and_too_long_is_refused() -> None:
    with pytest.raises(Invalid, match="more than 10000 devices"):
        checked_devices((DEVICE,) * (MAX_DEVICES + 1))
    with pytest.raises(Invalid, match="more than 10000 pools"):
        checked_pools((POOL,) * 10_001)
    for name in ("id", "node", "parent", "vendor", "product", "compute_capability"):
        with pytest.raises(Invalid, match="text of a device"):
            checked_devices((_renamed(DEVICE, name),))
    for name in ("node", "resource", "profile"):
        with pytest.raises(Invalid, match="text of a pool"):
            checked_pools((_renamed(POOL, name),))


def test_numbers_and_reasons_are_kept_within_bounds() -> None:
    (device,) = checked_devices((replace(DEVICE, memory_mib=2**60, reason="x" * 5000),))
    assert (device.memory_mib, len(device.reason)) == (MAX_MEMORY_MIB, 1024)


def test_a_pool_is_never_freer_than_it_is_whole() -> None:
    (pool,) = checked_pools((replace(POOL, allocatable=9, free=12, ours=2, reason="cordoned"),))
    assert (pool.total, pool.allocatable, pool.free, pool.ours) == (8, 8, 8, 0)
    assert pool.reason.startswith("cordoned; its agent told 8 in all, 9 allocatable, 12 free")


def test_a_picture_without_an_age_is_old() -> None:
    assert [checked_age(s) for s in (-1.0, 0.0, 7.5)] == [0.0, 0.0, 7.5]
    assert checked_age(math.nan) == checked_age(math.inf) == MAX_AGE_S


def test_measured_numbers_are_finite() -> None:
    seen = ObservedVersion(model="m", version=1, digest="d", state=VersionState.WARMED)
    assert checked_version(seen) is seen
    nonsense = Calibration(per_second=math.inf, latency_ms=-1, concurrency=1)
    told = checked_version(replace(seen, rate=math.nan, latency_ms=-3.0, calibration=nonsense))
    assert (told.rate, told.latency_ms, told.calibration) == (0.0, 0.0, None)
    good = Calibration(per_second=9.0, latency_ms=3.0, concurrency=4)
    assert checked_version(replace(seen, calibration=good)).calibration == good
