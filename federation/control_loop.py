"""The control plane's spine: one inbox, one writer. Read this file first.

Input: events, submitted by `federation.api` (people, agents, routers) and by the timer below.
Output: the store and the publisher, in this order:

    inbox → decide (pure) → commit (one transaction for all events that waited) → publish → answer

An event is answered only after its commit, so an acknowledged one is never lost. A refused event
changes nothing. If a commit fails or a decider has a bug, `run` raises: memory may be ahead of the
store, so the supervisor calls `run` again, which loads everything from the store.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from federation.contract.errors import FederationError, Unavailable
from federation.contract.types import Snapshot
from federation.policy import snapshot
from federation.policy.decide import decide
from federation.policy.events import (
    Applied,
    Assign,
    CloseAgent,
    Command,
    Delete,
    Event,
    Idempotency,
    Outcome,
    PublishSnapshot,
    Put,
    Started,
    TimePassed,
    Touch,
    WakeAt,
    Welcomed,
)
from federation.policy.state import State, restore
from federation.publisher import Change, Publisher
from federation.runtime.clock import Clock
from federation.store.base import Store

T = TypeVar("T")
Result = Applied | Welcomed | bool

BATCH = 512  # events in one commit
# Changes of live things take a revision without a commit. Each start skips so many that none is
# given out twice; a commit is forced before that many could be outstanding.
UNWRITTEN_REVISIONS = 10_000


@dataclass(slots=True, eq=False)
class _Letter:
    """An event in the inbox, and where its answer goes (None: nobody waits for one)."""

    event: Event
    idempotency: Idempotency | None
    answer: asyncio.Future[Result] | None


class ControlLoop:
    """Owns the State; every change of it goes through `submit`.

    Counters for /metrics: `events_total` by event type, `refused_total` by reason, `commits_total`,
    `last_step_s` (seconds that the newest batch took).
    """

    def __init__(
        self, *, store: Store, publisher: Publisher, clock: Clock, lease_seconds: int = 10
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._lease = timedelta(seconds=lease_seconds)
        self._state = State(lease=self._lease)
        self._inbox: asyncio.Queue[_Letter] = asyncio.Queue()
        self._ready = asyncio.Event()
        self._stopped = False
        self._wake_at: datetime | None = None
        self._starts = 0
        self._sequence = 0  # of the newest snapshot in this start
        self._written_revision = 0
        self.events_total: Counter[str] = Counter()
        self.refused_total: Counter[str] = Counter()
        self.commits_total = 0
        self.last_step_s = 0.0

    def __repr__(self) -> str:
        ready = "ready" if self._ready.is_set() else "not ready"
        return f"ControlLoop({ready}, inbox={self._inbox.qsize()}, {self._state})"

    # ------------------------------------------------------------ for the API

    @property
    def state(self) -> State:
        """What is known now, for `federation.policy.views`. Read it, never change it."""
        return self._state

    async def ready(self) -> None:
        """Return once the state is loaded and the first snapshot is published."""
        await self._ready.wait()

    @property
    def is_ready(self) -> bool:
        """Whether events are being decided now."""
        return self._ready.is_set()

    async def submit(self, event: Event, *, idempotency: Idempotency | None = None) -> Result:
        """Have `event` decided and committed; returns its result (see `events.Outcome`).

        Raises the refusal (a FederationError); Unavailable if the loop stopped before the answer.
        """
        if self._stopped:
            raise _unavailable()
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait(_Letter(event, idempotency, answer))
        return await answer

    def preview(self, event: Event) -> tuple[State, Result]:
        """Decide `event` on a copy: the state that it would lead to, and its result (dry run)."""
        state = self._state.copy()
        outcome = decide(state, event, self._clock.utc())
        return state, outcome.result

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Load the store, then decide, commit and publish until cancelled."""
        batch: list[_Letter] = []
        self._stopped = False
        with ThreadPoolExecutor(1, thread_name_prefix="store") as writer:
            try:
                await self._start(writer)
                while True:
                    batch = await self._next_batch()
                    started_s = self._clock.monotonic_s()
                    await self._step(batch, writer)
                    self.last_step_s = self._clock.monotonic_s() - started_s
            finally:
                self._ready.clear()
                self._stopped = True
                self._abandon(batch)

    async def _start(self, writer: ThreadPoolExecutor) -> None:
        loaded = await _in_thread(writer, self._store.load)
        self._starts, self._sequence = loaded.starts, 0
        self._written_revision = loaded.revision
        revision = loaded.revision + UNWRITTEN_REVISIONS
        self._state = restore(loaded.records, revision=revision, lease=self._lease)
        self._publisher.begin(revision)
        outcome = decide(self._state, Started(), self._clock.utc())
        await self._commit(outcome.commands, writer)
        self._publish(outcome.commands)
        self._ready.set()

    async def _next_batch(self) -> list[_Letter]:
        """Return all events that wait, at least one; TimePassed if its time comes first."""
        batch: list[_Letter] = []
        try:
            async with asyncio.timeout(self._until_wake_s()):
                batch.append(await self._inbox.get())
        except TimeoutError:
            pass
        while len(batch) < BATCH and not self._inbox.empty():
            batch.append(self._inbox.get_nowait())
        if self._until_wake_s() == 0:
            self._wake_at = None
            batch.append(_Letter(TimePassed(), None, None))
        return batch

    def _until_wake_s(self) -> float | None:
        if self._wake_at is None:
            return None
        return max(0.0, (self._wake_at - self._clock.utc()).total_seconds())

    async def _step(self, batch: list[_Letter], writer: ThreadPoolExecutor) -> None:
        now = self._clock.utc()
        commands: list[Command] = []
        answers = [self._decide(letter, now) for letter in batch]
        for answer in answers:
            if isinstance(answer, Outcome):
                commands.extend(answer.commands)
        await self._commit(commands, writer)
        self._publish(commands)
        for letter, answer in zip(batch, answers, strict=True):
            if letter.answer is None or letter.answer.done():  # the submitter stopped waiting
                continue
            if isinstance(answer, Outcome):
                letter.answer.set_result(answer.result)
            else:
                letter.answer.set_exception(answer)
        batch.clear()

    def _decide(self, letter: _Letter, now: datetime) -> Outcome | FederationError:
        self.events_total[type(letter.event).__name__] += 1
        try:
            return decide(self._state, letter.event, now, letter.idempotency)
        except FederationError as refusal:
            self.refused_total[refusal.reason] += 1
            return refusal

    async def _commit(self, commands: Sequence[Command], writer: ThreadPoolExecutor) -> None:
        writes = [c for c in commands if isinstance(c, Put | Delete)]
        revision = self._state.revision
        if writes or revision - self._written_revision >= UNWRITTEN_REVISIONS // 2:
            await _in_thread(writer, lambda: self._store.commit(writes, revision))
            self._written_revision = revision
            self.commits_total += 1

    def _publish(self, commands: Sequence[Command]) -> None:
        """Tell agents, routers and watchers what is committed; of each thing only the newest."""
        for command in commands:
            if isinstance(command, CloseAgent):
                self._publisher.close_agent(command.cluster, command.epoch, command.reason)
            elif isinstance(command, WakeAt):
                self._wake_at = min(command.at, self._wake_at or command.at)
        newest = {c.assignment.cluster: c.assignment for c in commands if isinstance(c, Assign)}
        for assignment in newest.values():
            self._publisher.publish_assignment(assignment)
        if any(isinstance(command, PublishSnapshot) for command in commands):
            self._publish_snapshot()
        if changes := _changes(commands):
            self._publisher.publish_changes(changes)

    def _publish_snapshot(self) -> None:
        new: Snapshot = snapshot.build(self._state, self._starts << 32 | self._sequence + 1)
        if self._sequence == 0 or not snapshot.same_content(new, self._publisher.snapshot):
            self._sequence += 1
            self._publisher.publish_snapshot(new)

    def _abandon(self, batch: list[_Letter]) -> None:
        """Answer those who wait: nobody knows whether their event was committed."""
        while not self._inbox.empty():
            batch.append(self._inbox.get_nowait())
        for letter in batch:
            if letter.answer and not letter.answer.done():
                letter.answer.set_exception(_unavailable())


def _unavailable() -> Unavailable:
    return Unavailable("the control plane stopped before it answered.", hint="Try again.")


def _changes(commands: Sequence[Command]) -> list[Change]:
    """Return the last change of each object, ordered by revision."""
    changes: dict[tuple[str, str], Change] = {}
    for command in commands:
        if isinstance(command, Put | Delete | Touch) and command.revision:
            key = (command.kind, command.name)
            changes[key] = Change(
                revision=command.revision,
                kind=command.kind,
                name=command.name,
                deleted=isinstance(command, Delete),
            )
    return sorted(changes.values(), key=lambda change: change.revision)


async def _in_thread(writer: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(writer, work)
