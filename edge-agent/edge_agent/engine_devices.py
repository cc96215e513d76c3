"""Devices as the serving engine counts them: for engines that span more machines than the agent's.

Input: a backend that can tell its devices (Ray's dashboard does). Output: devices for the reports.
"""

import asyncio

from edge_agent.backends.base import BackendError
from edge_agent.inventory.base import DeviceSource
from federation.contract.capacity import Capacity, Device

DEADLINE_S = 5.0


class EngineInventory:
    """Asks the engine; while it does not answer, its last answer counts."""

    def __init__(self, source: DeviceSource) -> None:
        self._source = source
        self._devices: tuple[Device, ...] = ()

    def __repr__(self) -> str:
        return f"EngineInventory({len(self._devices)} devices)"

    async def read(self) -> Capacity:
        """Return the engine's devices; never raises."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                self._devices = await self._source.devices()
        except (BackendError, TimeoutError):
            pass  # what is wrong with the engine is told by its status
        return Capacity(devices=self._devices)
