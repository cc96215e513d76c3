"""Inventories are read again and again and shown as one list."""

import asyncio
from collections.abc import Mapping

import pytest

from edge_agent.inventory import base
from federation.contract.capacity import Capacity, Device


class Listed:
    """Sees what it is told, one after another."""

    def __init__(self, *seen: str) -> None:
        self.seen = list(seen)

    async def read(self) -> Capacity:
        name = self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]
        return Capacity(devices=(Device(id=name, vendor="v", product="p", memory_mib=1),))


async def test_watching_merges_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MEASURE_S", 0.001)
    shown: list[list[str]] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await base.watch(
                [Listed("a", "b"), Listed("a")],
                lambda capacity: shown.append([d.id for d in capacity.devices]),
            )
    assert shown[:2] == [["a"], ["b", "a"]]


class Driver(Listed):
    """Knows its devices by two names."""

    def __init__(self, *seen: str, names: Mapping[str, str]) -> None:
        super().__init__(*seen)
        self.names = names


async def test_a_look_joins_devices_by_their_names_and_adds_none_of_those_that_only_tell() -> None:
    driver = Driver("GPU-1", names={"0000:01:00.0": "GPU-1"})
    capacity = await base.look([driver, Listed("01:00.0")], [Listed("GPU-2")])
    assert [d.id for d in capacity.devices] == ["GPU-1"]


async def test_a_bus_id_of_two_machines_names_nothing() -> None:
    one = Driver("GPU-1", names={"0000:01:00.0": "GPU-1"})
    two = Driver("GPU-2", names={"0000:01:00.0": "GPU-2"})
    capacity = await base.look([one, two, Listed("0000:01:00.0")])
    assert [d.id for d in capacity.devices] == ["GPU-1", "GPU-2", "0000:01:00.0"]


class Followed(Listed):
    """Follows something, and tells a change soon after each look."""

    def __init__(self, *seen: str) -> None:
        super().__init__(*seen)
        self.changed = asyncio.Event()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self.changed.set()


async def test_a_change_elsewhere_is_no_reason_to_ask_a_driver_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "SETTLE_S", 0.001)
    driver, shown = Listed("a", "b"), list[list[str]]()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await base.watch(
                [driver, Followed("x", "y", "z")],
                lambda capacity: shown.append([d.id for d in capacity.devices]),
            )
    assert shown[:3] == [["a", "x"], ["a", "y"], ["a", "z"]]
