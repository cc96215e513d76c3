"""What devices do, in columns."""

import math

from hypothesis import given
from hypothesis import strategies as st

from federation.contract.capacity import Device, DeviceUse
from federation.contract.device_use import UseColumns, use_columns, with_use

uses = st.builds(
    DeviceUse,
    memory_mib=st.none() | st.integers(0, 2**31),
    utilization=st.none() | st.integers(0, 1000).map(lambda n: n / 1000),
    temperature_c=st.none() | st.integers(0, 120).map(float),
    power_w=st.none() | st.integers(0, 2000).map(float),
)


def device(use: DeviceUse | None = None) -> Device:
    return Device(id="a", vendor="v", product="p", memory_mib=1, use=use)


@given(st.lists(st.none() | uses.filter(lambda use: use != DeviceUse()), max_size=5))
def test_rounded_numbers_come_back(told: list[DeviceUse | None]) -> None:
    busy = [device(use) for use in told]
    resting = [device() for _ in told]
    assert with_use(resting, use_columns(busy)) == tuple(busy)


def test_numbers_are_rounded_and_what_is_no_number_is_not_known() -> None:
    told = [
        device(DeviceUse(utilization=0.12345, temperature_c=61.4, power_w=-5.0)),
        device(DeviceUse(utilization=math.nan, temperature_c=math.inf)),
    ]
    first, second = with_use(told, use_columns(told))
    assert first.use == DeviceUse(utilization=0.123, temperature_c=61.0, power_w=0.0)
    assert second.use is not None
    assert (second.use.utilization, second.use.temperature_c) == (None, 2.0**32 - 2)


def test_columns_of_which_nothing_is_known_are_empty() -> None:
    assert use_columns([device(), device()]) == UseColumns()
    short = UseColumns(memory_mib=(8,))
    assert short.at(0) == DeviceUse(memory_mib=7)
    assert short.at(1) is None
