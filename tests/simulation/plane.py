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
from federation.policy.state import State, restore
from federation.store.records import decode, encode

START = datetime(2026, 1, 1, tzinfo=UTC)


class Plane:
    def __init__(self, *, through_json: bool = False) -> None:
        self.through_json = through_json
        self.stored: dict[str, dict[str, Any]] = {kind: {} for kind in PERSISTENT}
        self.state = State()
        self.now_s = 0.0
        self.starts = 1
        self.sequence = 0
        self.wake: datetime | None = None
        self.snapshot = snapshot.build(self.state, 1 << 32)
        self.assigned: dict[str, Assignment] = {}  # as it was published last
        self.refused = 0
        self.after: Callable[[], None] = lambda: None  # called after each commit

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.now_s)

    def do(self, event: Event) -> Result | None:
        """Decide, commit, publish; None = refused."""
        try:
            outcome = decide(self.state, event, self.now)
        except FederationError:
            self.refused += 1
            return None
        self._perform(outcome.commands)
        return outcome.result

    def tick(self, now_s: float) -> None:
        """Time passes; wakes that are due come, each in a commit of its own."""
        self.now_s = now_s
        for _ in range(100):
            if self.wake is None or self.wake > self.now:
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
        self.starts, self.sequence, self.wake = self.starts + 1, 0, None
        self.state = restore(records, revision=revision, blank=State())
        self.do(Started())

    def _perform(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Put(kind=kind, name=name, record=record):
                    self.stored[kind][name] = record
                case Delete(kind=kind, name=name):
                    self.stored[kind].pop(name, None)
                case Assign(assignment=assignment):
                    self.assigned[assignment.cluster] = assignment
                case WakeAt(at=moment):
                    self.wake = min(moment, self.wake or moment)
                case _:
                    pass
        if any(isinstance(command, PublishSnapshot) for command in commands):
            self._publish()
        self.after()

    def _publish(self) -> None:
        version = self.starts << 32 | self.sequence + 1
        new: Snapshot = snapshot.build(self.state, version)
        if self.sequence == 0 or not snapshot.same_content(new, self.snapshot):
            self.sequence += 1
            self.snapshot = new
        self.state.published = (self.starts << 32 | self.sequence, self.state.revision)
