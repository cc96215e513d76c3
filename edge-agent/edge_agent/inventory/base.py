"""What sees the accelerators of a cluster: one protocol over drivers, files, engines, exporters.

Input: asked by the agent's loop every few seconds. Output: one picture of devices for the reports.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

from edge_agent.policy.capacity import merge
from federation.contract.capacity import Capacity, Device

MEASURE_S = 10.0
SETTLE_S = 0.2  # changes that come together are shown together


class Inventory(Protocol):
    """One way to see devices."""

    async def read(self) -> Capacity:
        """Return what is seen now; bounded in time, never raises. What is unknown is absent; what
        could not be read is as before, with its age and the reason."""
        ...


@runtime_checkable
class KnowsNames(Protocol):
    """An inventory that knows devices by two names."""

    @property
    def names(self) -> Mapping[str, str]:
        """Return the ids of devices by their PCI bus ids."""
        ...


@runtime_checkable
class DeviceSource(Protocol):
    """A backend whose engine knows its devices better than this machine does."""

    async def devices(self) -> tuple[Device, ...]:
        """Return the engine's devices; may raise BackendError."""
        ...


async def look(inventories: Sequence[Inventory], telling: Sequence[Inventory] = ()) -> Capacity:
    """Return what all inventories see as one picture; those of `telling` add no devices, they only
    tell more of those that the others see. Waits some seconds for those that follow a source."""
    every, count = (*inventories, *telling), len(inventories)
    following = [inventory for inventory in every if isinstance(inventory, Following)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(inventory.run()) for inventory in following]
        with suppress(TimeoutError):
            async with asyncio.timeout(MEASURE_S):
                await asyncio.gather(*(inventory.ready.wait() for inventory in following))
        seen = await asyncio.gather(*(inventory.read() for inventory in every))
        for task in tasks:
            task.cancel()
    return merge(seen[:count], telling=seen[count:], names=_names(every))


def _names(inventories: Iterable[Inventory]) -> dict[str, str]:
    """Return ids by bus id; what two machines call the same names nothing."""
    found: dict[str, set[str]] = {}
    for inventory in inventories:
        if isinstance(inventory, KnowsNames):
            for bus_id, name in inventory.names.items():
                found.setdefault(bus_id, set()).add(name)
    return {bus_id: min(names) for bus_id, names in found.items() if len(names) == 1}


@runtime_checkable
class Following(Protocol):
    """An inventory that follows its source all the time, so that changes are known at once."""

    changed: asyncio.Event  # set by the inventory, cleared by who reads it
    ready: asyncio.Event  # there is a first picture, or it is known why there is none

    async def run(self) -> None:
        """Follow for ever; what it holds open is closed when it is cancelled."""
        ...


async def watch(
    inventories: Sequence[Inventory],
    show: Callable[[Capacity], None],
    *,
    telling: Sequence[Inventory] = (),
) -> None:
    """Read all inventories every few seconds, and when one tells a change; show one picture.

    A change at one that follows its source is no reason to ask drivers and exporters again.
    """
    every, seen = (*inventories, *telling), list[Capacity]()
    following = [inventory for inventory in every if isinstance(inventory, Following)]
    now_s, due_s = asyncio.get_running_loop().time, 0.0
    async with asyncio.TaskGroup() as group:
        for inventory in following:
            group.create_task(inventory.run())
        while True:
            for inventory in following:
                inventory.changed.clear()
            if due := now_s() >= due_s:
                due_s = now_s() + MEASURE_S
            seen = await _read(every, [] if due else seen)
            count = len(inventories)
            show(merge(seen[:count], telling=seen[count:], names=_names(every)))
            await _pause(following)


async def _read(inventories: Sequence[Inventory], before: Sequence[Capacity]) -> list[Capacity]:
    """Read those that follow their source, and all if there is nothing from before."""
    asked = [not before or isinstance(inventory, Following) for inventory in inventories]
    pairs = zip(inventories, asked, strict=True)
    fresh = iter(await asyncio.gather(*(i.read() for i, ask in pairs if ask)))
    return [next(fresh) if ask else before[place] for place, ask in enumerate(asked)]


async def _pause(following: Sequence[Following]) -> None:
    """Wait until it is time to look again, or until there is something to see."""
    if not following:
        await asyncio.sleep(MEASURE_S)
        return
    await asyncio.sleep(min(SETTLE_S, MEASURE_S))
    waits = [asyncio.ensure_future(one.changed.wait()) for one in following]  # noqa: TID251  # ended here
    try:
        await asyncio.wait(waits, timeout=MEASURE_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
