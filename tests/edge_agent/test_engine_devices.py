"""Devices that the engine counts."""

from edge_agent.backends.base import EngineUnreachable
from edge_agent.engine_devices import EngineInventory
from federation.contract.capacity import Device

GPU = Device(id="ray-0", vendor="nvidia", product="GPU", memory_mib=0)


class Source:
    """An engine that answers, or not."""

    def __init__(self) -> None:
        self.up = True

    async def devices(self) -> tuple[Device, ...]:
        if not self.up:
            raise EngineUnreachable("gone")
        return (GPU,)


async def test_the_last_answer_counts_while_the_engine_is_away() -> None:
    source = Source()
    source.up = False
    inventory = EngineInventory(source)
    assert (await inventory.read()).devices == ()
    source.up = True
    assert (await inventory.read()).devices == (GPU,)
    source.up = False
    assert (await inventory.read()).devices == (GPU,)
