"""Inventories are read again and again and shown as one list."""

import asyncio

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
