import asyncio
import itertools
import time

from edge_agent.policy.courtesy import UNBOUNDED, Courtesy
from edge_agent.sync.courtesy import Watch
from edge_agent.sync.throttle import Throttle
from federation.contract.sync import SyncSpec
from federation.contract.types import Urgency


async def watched(watch: Watch, throttle: Throttle, *, block_s: float, for_s: float) -> float:
    """Move bytes, hold the loop up again and again; return the rate that was decided."""
    task = asyncio.create_task(watch.run())
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        throttle.origin.pay(Urgency.NORMAL, 1000)
        time.sleep(block_s)
        await asyncio.sleep(0.005)
    task.cancel()
    return watch.courtesy.rate


async def test_transfers_step_back_while_requests_wait_for_their_turn() -> None:
    throttle = Throttle(SyncSpec())
    watch = Watch(throttle, lambda: True, lambda: 0)
    rate = await watched(watch, throttle, block_s=0.02, for_s=1.2)
    assert rate < Courtesy().limits.first
    assert throttle.origin.shape.read_bytes > 0
    assert throttle.breath.needed
    assert f"{rate:.0f}" in repr(watch)


async def test_without_requests_they_do_not() -> None:
    throttle = Throttle(SyncSpec())
    watch = Watch(throttle, lambda: False, lambda: 5)
    assert await watched(watch, throttle, block_s=0.02, for_s=0.5) == UNBOUNDED


async def test_requests_that_end_between_two_looks_count() -> None:
    """At a low rate none is in flight whenever somebody looks."""
    throttle, begun = Throttle(SyncSpec()), itertools.count()
    watch = Watch(throttle, lambda: False, lambda: next(begun))
    assert await watched(watch, throttle, block_s=0.02, for_s=0.5) < UNBOUNDED


async def test_the_cap_of_the_cluster_still_holds() -> None:
    throttle = Throttle(SyncSpec(max_mbytes_per_second=1))
    throttle.step_back(5e6)
    capped = throttle.origin.shape
    throttle.step_back(UNBOUNDED)
    assert throttle.origin.shape == capped
    assert not throttle.breath.needed
