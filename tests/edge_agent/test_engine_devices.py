"""Devices that the engine counts."""

from edge_agent.backends.base import EngineUnreachable
from edge_agent.engine_devices import EngineInventory
from federation.contract.capacity import Capacity, Device
from federation.runtime.clock import ManualClock

GPU = Device(id="ray-0", vendor="nvidia", product="GPU", memory_mib=0)


class Source:
    """An engine that answers, or not."""

    def __init__(self) -> None:
        self.up = True

    async def devices(self) -> tuple[Device, ...]:
        if not self.up:
            raise EngineUnreachable("gone")
        return (GPU,)


async def test_the_last_answer_counts_with_its_age_while_the_engine_is_away() -> None:
    source, clock = Source(), ManualClock()
    source.up = False
    inventory = EngineInventory(source, clock=clock)
    assert (await inventory.read()).devices == ()
    source.up = True
    assert await inventory.read() == Capacity(devices=(GPU,))
    source.up = False
    clock.advance(7)
    assert await inventory.read() == Capacity(
        devices=(GPU,), age_s=7.0, reason="the engine does not tell its devices: gone"
    )
