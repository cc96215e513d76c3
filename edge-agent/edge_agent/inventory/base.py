"""What sees the accelerators of a cluster: one protocol over drivers, files and engines.

Input: asked by the agent's loop every few seconds. Output: devices for the reports.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from edge_agent.policy.capacity import merge
from federation.contract.capacity import Capacity, Device

MEASURE_S = 10.0


class Inventory(Protocol):
    """One way to see devices."""

    async def read(self) -> Capacity:
        """Return what is seen now; bounded in time, never raises. What is unknown is absent; what
        could not be read is as before, with its age and the reason."""
        ...


@runtime_checkable
class DeviceSource(Protocol):
    """A backend whose engine knows its devices better than this machine does."""

    async def devices(self) -> tuple[Device, ...]:
        """Return the engine's devices; may raise BackendError."""
        ...


async def watch(inventories: Sequence[Inventory], show: Callable[[Capacity], None]) -> None:
    """Read all inventories every few seconds and show one picture, for ever."""
    while True:
        seen = await asyncio.gather(*(inventory.read() for inventory in inventories))
        show(merge(seen))
        await asyncio.sleep(MEASURE_S)
