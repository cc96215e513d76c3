"""Nobody is told what a crash could still undo: who reads the state can wait for its commit."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from federation.contract.errors import Unavailable
from federation.control_loop import ControlLoop
from federation.policy.audit.events import AppendAudit
from federation.policy.events import Delete, Put
from federation.publisher import Publisher
from federation.runtime.clock import ManualClock
from federation.store.memory import MemoryStore
from tests.federation.test_control_loop import region


class Halting(MemoryStore):
    """Commits when it is let, and can be told to fail then."""

    def __init__(self) -> None:
        super().__init__()
        self.fail = False
        self.began = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def commit(self, batch: Sequence[Put | Delete | AppendAudit], revision: int) -> None:
        self.began.set()
        assert self.may_go_on.wait(10)
        if self.fail:
            raise OSError("disk full")
        super().commit(batch, revision)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_tells_others_of_the_state_can_wait_until_it_is_stored(fails: bool) -> None:
    store = Halting()
    loop = ControlLoop(store=store, publisher=Publisher(), clock=ManualClock())
    task = asyncio.get_running_loop().create_task(loop.run())
    async with asyncio.timeout(10):
        await loop.ready()
        await loop.durable()
        store.began.clear()
        store.may_go_on.clear()
        store.fail = fails
        answer = asyncio.ensure_future(loop.submit(region("eu")))
        await asyncio.to_thread(store.began.wait, 10)
        assert "eu" in loop.state.regions
        reader = asyncio.ensure_future(loop.durable())
        await asyncio.sleep(0)
        assert not reader.done()
        store.may_go_on.set()
        if fails:
            with pytest.raises(Unavailable):
                await reader
            with pytest.raises(OSError, match="disk full"):
                await task
        else:
            await reader
            assert "eu" in store.load().records["Region"]
    task.cancel()
    await asyncio.gather(task, answer, return_exceptions=True)
