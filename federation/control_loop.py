"""The control plane's spine: one inbox, one writer. Read this file first.

Input: events, submitted by `federation.api` (people, agents, routers) and by the timer below.
Output: the store and the publisher, in this order:

    inbox → decide (pure) → commit (one transaction for all events that waited) → publish → answer

An event is answered only after its commit, so an acknowledged one is never lost. A refused event
changes nothing. If a commit fails or a decider has a bug, `run` raises: memory may be ahead of the
store, so the supervisor calls `run` again, which loads everything from the store. While a commit is
under way the state shows more than the store has: who tells others of it waits for `durable` first.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from federation.agent_news import AgentNews
from federation.contract.errors import FederationError, Unavailable
from federation.contract.trust import Trust
from federation.contract.types import Snapshot
from federation.policy import snapshot
from federation.policy.access.roles import Caller
from federation.policy.audit.events import INSIDE, AppendAudit, Origin
from federation.policy.decide import decide, decide_among, finish
from federation.policy.events import (
    Assign,
    CloseAgent,
    Command,
    Delete,
    Event,
    Idempotency,
    Outcome,
    PublishSnapshot,
    Put,
    Result,
    Started,
    TimePassed,
    Touch,
    WakeAt,
)
from federation.policy.membership.events import CloseRouter, PublishRouters, PublishTrust
from federation.policy.membership.trust import revocations, router_addresses
from federation.policy.state import State, restore
from federation.publisher import Change, Publisher
from federation.runtime.clock import Clock
from federation.store.base import Store

T = TypeVar("T")

BATCH = 512  # events in one commit
# Changes of live things take a revision without a commit. Each start skips so many that none is
# given out twice; a commit is forced before that many could be outstanding.
UNWRITTEN_REVISIONS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What deciders need to know and what stays the same while the control plane runs.

    `leaf_life` is the longest that a certificate issued by now or before may last; `pepper` (hex,
    secret) is what keys are hashed with.
    """

    lease: timedelta = timedelta(seconds=10)
    leaf_life: timedelta = timedelta(hours=24)
    trust_domain: str = "federation.internal"
    pepper: str = field(default="", repr=False)
    max_rollouts: int = 50

    def blank(self) -> State:
        """Return a State that remembers nothing."""
        return State(
            lease=self.lease,
            leaf_life=self.leaf_life,
            trust_domain=self.trust_domain,
            pepper=self.pepper,
            max_rollouts=self.max_rollouts,
        )


@dataclass(slots=True, eq=False)
class _Letter:
    """An event in the inbox, and where its answer goes (None: nobody waits for one)."""

    event: Event
    answer: asyncio.Future[Result] | None = None
    idempotency: Idempotency | None = None
    caller: Caller | None = None
    origin: Origin = INSIDE


class ControlLoop:
    """Owns the State; every change of it goes through `submit`.

    Counters for /metrics: `events_total` by event type, `refused_total` by reason, `commits_total`,
    `last_step_s` (seconds that the newest batch took). `roots` tells the certificate authorities
    (PEM) to be trusted now, `release_keys` the public keys (hex) that sign releases; who changes
    them calls `publish_trust`.
    """

    def __init__(
        self,
        *,
        store: Store,
        publisher: Publisher,
        clock: Clock,
        constants: Constants | None = None,
        roots: Callable[[], tuple[str, ...]] = tuple,
        release_keys: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._roots = roots
        self._release_keys = release_keys
        self._news = AgentNews(publisher)
        self._news_due = False
        self._constants = constants or Constants()
        self._state = self._constants.blank()
        self._parts = snapshot.Parts()
        self._inbox: asyncio.Queue[_Letter] = asyncio.Queue()
        self._ready = asyncio.Event()
        self._durable = asyncio.Event()  # what the state shows is in the store
        self._durable.set()
        self._stopped = False
        self._wake_at: datetime | None = None
        self._starts = 0
        self._sequence = 0  # of the newest snapshot in this start
        self._trust_sequence = 0
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
        """What is known now, for `federation.policy.views`. Read it, never change it. A crash may
        still undo it: before it is told to anybody, wait for `durable`."""
        return self._state

    async def durable(self) -> None:
        """Return once what `state` showed before this call is in the store; raises Unavailable if
        it may never be."""
        await self._durable.wait()
        if self._stopped:
            raise _unavailable()

    async def ready(self) -> None:
        """Return once the state is loaded and the first snapshot is published."""
        await self._ready.wait()

    @property
    def is_ready(self) -> bool:
        """Whether events are being decided now."""
        return self._ready.is_set()

    async def submit(
        self,
        event: Event,
        *,
        idempotency: Idempotency | None = None,
        caller: Caller | None = None,
        origin: Origin = INSIDE,
    ) -> Result:
        """Have `event` decided and committed; returns its result (see `events.Outcome`).

        `caller` is who asked for it over the operator API, and must be allowed to; `origin` is for
        the audit log. Raises the refusal (a FederationError); Unavailable if the loop stopped
        before the answer.
        """
        if self._stopped:
            raise _unavailable()
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait(_Letter(event, answer, idempotency, caller, origin))
        return await answer

    def preview(self, event: Event, *, caller: Caller | None = None) -> tuple[State, Result]:
        """Decide `event` on a copy: the state that it would lead to, and its result (dry run)."""
        state = self._state.copy()
        outcome = decide(state, event, self._clock.utc(), caller=caller)
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
                self._durable.set()
                self._abandon(batch)

    async def _start(self, writer: ThreadPoolExecutor) -> None:
        loaded = await _in_thread(writer, self._store.load)
        self._starts, self._sequence, self._trust_sequence = loaded.starts, 0, 0
        self._written_revision = loaded.revision
        revision = loaded.revision + UNWRITTEN_REVISIONS
        self._state = restore(loaded.records, revision=revision, blank=self._constants.blank())
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
            batch.append(_Letter(TimePassed()))
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
        commands.extend(finish(self._state, now))
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
            return decide_among(
                self._state, letter.event, now, letter.idempotency, letter.caller, letter.origin
            )
        except FederationError as refusal:
            self.refused_total[refusal.reason] += 1
            return refusal

    async def _commit(self, commands: Sequence[Command], writer: ThreadPoolExecutor) -> None:
        writes = [c for c in commands if isinstance(c, Put | Delete | AppendAudit)]
        revision = self._state.revision
        if writes or revision - self._written_revision >= UNWRITTEN_REVISIONS // 2:
            self._durable.clear()
            await _in_thread(writer, lambda: self._store.commit(writes, revision))
            self._durable.set()
            self._written_revision = revision
            self.commits_total += 1

    def _publish(self, commands: Sequence[Command]) -> None:
        """Tell agents, routers and watchers what is committed; of each thing only the newest.

        Trust goes first: a stream that is closed looks there for the reason.
        """
        kinds = {type(command) for command in commands}
        if PublishTrust in kinds:
            self.publish_trust()
        if PublishRouters in kinds:
            self._publisher.router_addresses.publish(router_addresses(self._state))
        for command in commands:
            self._perform(command)
        newest = {c.assignment.cluster: c.assignment for c in commands if isinstance(c, Assign)}
        for assignment in newest.values():
            self._publisher.publish_assignment(assignment)
        if PublishSnapshot in kinds:
            self._publish_snapshot()
        if PublishSnapshot in kinds or self._news_due:
            self._tell_agents()
        if changes := _changes(commands):
            self._publisher.publish_changes(changes)

    def _perform(self, command: Command) -> None:
        match command:
            case CloseAgent(cluster=cluster, epoch=epoch, reason=reason):
                self._publisher.close_agent(cluster, epoch, reason)
            case CloseRouter(name=name, generation=generation, reason=reason):
                self._publisher.close_router(name, generation, reason)
            case WakeAt(at=moment):
                self._wake_at = min(moment, self._wake_at or moment)
            case _:  # what is published once for all commands, and what is in the store now
                pass

    def publish_trust(self) -> None:
        """Tell everyone whom to trust, if it is other than what they were told last.

        Before the first start is done there is nothing to tell: it is told then.
        """
        if not self._starts:
            return
        held = self._publisher.trust.newest
        new = Trust(
            version=self._starts << 32 | self._trust_sequence + 1,
            trust_domain=self._constants.trust_domain,
            roots=self._roots(),
            revoked=revocations(self._state),
            release_keys=self._release_keys(),
        )
        same = held is not None and replace(new, version=held.version) == held
        if self._trust_sequence == 0 or not same:
            self._trust_sequence += 1
            self._publisher.trust.publish(new)

    def _publish_snapshot(self) -> None:
        version = self._starts << 32 | self._sequence + 1
        new: Snapshot = snapshot.build(self._state, version, self._clock.utc(), self._parts)
        if self._sequence == 0 or not snapshot.same_content(new, self._publisher.snapshot):
            self._sequence += 1
            self._publisher.publish_snapshot(new)
        self._state.published = (self._starts << 32 | self._sequence, self._state.revision)

    def _tell_agents(self) -> None:
        due = self._news.tell(self._state, self._clock.utc())
        self._news_due = due is not None
        if due is not None:
            self._perform(WakeAt(at=due))

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
