"""Devices as the serving engine counts them: for engines that span more machines than the agent's.

Input: a backend that can tell its devices (Ray's dashboard does). Output: devices for the reports;
while the engine does not answer, its last answer with its age.
"""

import asyncio

from edge_agent.backends.base import BackendError
from edge_agent.inventory.base import DeviceSource
from federation.contract.capacity import Capacity, Device
from federation.runtime.clock import Clock

DEADLINE_S = 5.0


class EngineInventory:
    """Asks the engine; while it does not answer, its last answer counts."""

    def __init__(self, source: DeviceSource, *, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._devices: tuple[Device, ...] = ()
        self._seen_s = clock.monotonic_s()

    def __repr__(self) -> str:
        return f"EngineInventory({len(self._devices)} devices)"

    async def read(self) -> Capacity:
        """Return the engine's devices; never raises."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                self._devices = await self._source.devices()
        except (BackendError, TimeoutError) as error:
            words = str(error) or f"no answer within {DEADLINE_S:g} s"
            reason = f"the engine does not tell its devices: {words}"
            age_s = self._clock.monotonic_s() - self._seen_s
            return Capacity(devices=self._devices, age_s=age_s, reason=reason)
        self._seen_s = self._clock.monotonic_s()
        return Capacity(devices=self._devices)
