"""The control plane in a simulation: the real deciders over a store in memory that can be reloaded.

Input: events, at a virtual time. Output: assignments and snapshots as they would be published after
each commit. A crash forgets all but the store.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from federation.contract.errors import FederationError
from federation.contract.types import Assignment, Snapshot
from federation.policy import snapshot
from federation.policy.decide import decide
from federation.policy.events import (
    Assign,
    Command,
    Delete,
    Event,
    PublishSnapshot,
    Put,
    Result,
    Started,
    TimePassed,
    WakeAt,
)
from federation.policy.records import PERSISTENT
from federation.policy.rollouts.records import RolloutRecord
from federation.policy.state import State, restore
from federation.store.records import decode, encode

START = datetime(2026, 1, 1, tzinfo=UTC)


class Plane:
    def __init__(self, *, through_json: bool = False, lease_s: float = 10.0) -> None:
        self.through_json, self.lease = through_json, timedelta(seconds=lease_s)
        self.stored: dict[str, dict[str, Any]] = {kind: {} for kind in PERSISTENT}
        self.state = State(lease=self.lease)
        self.now_s = 0.0
        self.starts = 1
        self.sequence = 0
        self.wake: datetime | None = None
        self.snapshot = snapshot.build(self.state, 1 << 32)
        self.assigned: dict[str, Assignment] = {}  # as it was published last
        self.refused = 0
        self.turns = 0  # of rollouts from one phase to another, as they were stored
        # Whether it is killed after a turn was stored that brought a rollout here.
        self.killed_at: Callable[[RolloutRecord], bool] = lambda _: False
        self.dead = False  # it was, and must be started
        self.after: Callable[[], None] = lambda: None  # called after each commit

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.now_s)

    def do(self, event: Event) -> Result | None:
        """Decide, commit, publish; None = refused, or it was killed in between."""
        if self.dead:
            return None
        try:
            outcome = decide(self.state, event, self.now)
        except FederationError:
            self.refused += 1
            return None
        return outcome.result if self._perform(outcome.commands) else None

    def tick(self, now_s: float) -> None:
        """Time passes; wakes that are due come, each in a commit of its own."""
        self.now_s = now_s
        for _ in range(100):
            if self.dead or self.wake is None or self.wake > self.now:
                return
            self.wake = None
            self.do(TimePassed())
        raise AssertionError("the control plane wakes without end")

    def crash(self) -> None:
        """Start anew with what the store remembers."""
        records = {kind: dict(table) for kind, table in self.stored.items()}
        if self.through_json:
            records = {
                kind: {name: decode(kind, encode(record)) for name, record in table.items()}
                for kind, table in records.items()
            }
        revision = self.state.revision + 10_000
        self.dead = False
        self.starts, self.sequence, self.wake = self.starts + 1, 0, None
        self.state = restore(records, revision=revision, blank=State(lease=self.lease))
        self.do(Started())

    def _perform(self, commands: Sequence[Command]) -> bool:
        """Commit and publish; returns whether it lived to tell."""
        for command in commands:
            match command:
                case Put(kind=kind, name=name, record=record):
                    if kind == "Rollout":
                        self._note_turn(name, record)
                    self.stored[kind][name] = record
                case Delete(kind=kind, name=name):
                    self.stored[kind].pop(name, None)
                case _:
                    pass
        if self.dead:
            return False  # all is stored, and nobody was told
        for command in commands:
            match command:
                case Assign(assignment=assignment):
                    self.assigned[assignment.cluster] = assignment
                case WakeAt(at=moment):
                    self.wake = min(moment, self.wake or moment)
                case _:
                    pass
        if any(isinstance(command, PublishSnapshot) for command in commands):
            self._publish()
        self.after()
        return True

    def _note_turn(self, name: str, record: RolloutRecord) -> None:
        old = self.stored["Rollout"].get(name)
        if old is None or old.phase is not record.phase:
            self.turns += 1
            self.dead = self.dead or self.killed_at(record)

    def _publish(self) -> None:
        version = self.starts << 32 | self.sequence + 1
        new: Snapshot = snapshot.build(self.state, version)
        if self.sequence == 0 or not snapshot.same_content(new, self.snapshot):
            self.sequence += 1
            self.snapshot = new
        self.state.published = (self.starts << 32 | self.sequence, self.state.revision)
