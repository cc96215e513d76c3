"""The store is cleaned by itself, carefully."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from federation.api import storecare
from federation.api.storecare import ITSELF, StoreCare
from federation.artifacts.base import Collected
from federation.contract.errors import Conflict
from federation.control_loop import ControlLoop
from federation.policy.audit.events import StoreCollected
from federation.policy.state import State
from federation.runtime.clock import ManualClock

NOTHING = Collected(
    packs=4,
    packs_removed=0,
    packs_rewritten=0,
    documents_removed=0,
    bytes_before=1000,
    bytes_freed=0,
)
SOME = replace(NOTHING, packs_removed=1, bytes_freed=400)
MUCH = replace(NOTHING, packs_removed=3, bytes_freed=501)


class FakeStore:
    """Answers collections as it is told, and keeps who asked for what."""

    def __init__(self) -> None:
        self.would: Collected | Exception = NOTHING
        self.calls: list[tuple[bool, timedelta]] = []
        self.running = 0

    async def collect(
        self, live: Collection[str], *, now: datetime, grace: timedelta, dry_run: bool
    ) -> Collected:
        self.calls.append((dry_run, grace))
        self.running += 1
        assert self.running == 1
        await asyncio.sleep(0)
        self.running -= 1
        if isinstance(self.would, Exception):
            raise self.would
        return self.would


class FakeLoop:
    """A control loop that is ready, and keeps what it is told."""

    def __init__(self) -> None:
        self.state = State(lease=timedelta(1), leaf_life=timedelta(1), trust_domain="t", pepper="")
        self.told: list[StoreCollected] = []

    async def ready(self) -> None:
        pass

    async def submit(self, event: StoreCollected, **_: Any) -> None:
        self.told.append(event)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@asynccontextmanager
async def running(loop: FakeLoop, store: FakeStore, times: int) -> AsyncIterator[StoreCare]:
    """Let it collect by itself so often."""
    care = care_of(loop, store)
    task = asyncio.ensure_future(care.run(timedelta(microseconds=1)))
    try:
        async with asyncio.timeout(5):
            while len(store.calls) < times:
                await asyncio.sleep(0)
        yield care
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def care_of(loop: Any, store: Any) -> StoreCare:
    made: ControlLoop = loop
    return StoreCare(made, store, ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))


async def test_a_little_garbage_goes_unasked_and_is_told(loop: FakeLoop, store: FakeStore) -> None:
    store.would = SOME
    async with running(loop, store, 3) as care:
        assert store.calls[:2] == [(True, storecare.GRACE), (False, storecare.GRACE)]
        assert loop.told[0] == StoreCollected(actor=ITSELF, freed_bytes=400, packs=1, documents=0)
        assert care.figures.done >= 1
        assert care.figures.freed_bytes == 400 * care.figures.done
        assert care.figures.last_at is not None


async def test_without_garbage_nothing_is_told(loop: FakeLoop, store: FakeStore) -> None:
    async with running(loop, store, 3) as care:
        assert all(dry_run for dry_run, _ in store.calls)
        assert loop.told == []
        assert care.figures.last_at is not None


async def test_most_of_the_store_does_not_go_unasked(
    loop: FakeLoop, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.would = MUCH
    async with running(loop, store, 3) as care:
        assert all(dry_run for dry_run, _ in store.calls)
        assert (care.figures.done, loop.told) == (0, [])
        assert care.figures.held_back >= 2
        assert care.figures.last_at is None
    assert "501 of 1000 bytes" in caplog.text
    asked = FakeStore()
    asked.would = MUCH
    assert await care_of(loop, asked).collect("admin/ada", grace=timedelta()) is MUCH
    assert [event.actor for event in loop.told] == ["admin/ada"]  # a person may


async def test_an_error_is_told_and_the_next_time_comes(
    loop: FakeLoop, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.would = Conflict("nothing was removed: a manifest is damaged.")
    async with running(loop, store, 3) as care:
        assert care.figures.failed >= 2
    assert "a manifest is damaged" in caplog.text


async def test_one_at_a_time(loop: FakeLoop, store: FakeStore) -> None:
    care = care_of(loop, store)
    first = asyncio.ensure_future(care.collect("a", grace=timedelta()))
    await asyncio.sleep(0)
    with pytest.raises(Conflict, match="already"):
        await care.collect("b", grace=timedelta())
    await first
    assert [event.actor for event in loop.told] == ["a"]
