"""The agent's loop: one inbox, one writer: event → decide → keep → perform → show.

Input: events from the link (assignments), the worker (outcomes), the gateway (doubts) and the poll
of the engine, all through one inbox. Output: jobs for the worker, the assignment on disk, and the
board that the gateway and the link read. The control plane is one source of events and no more:
without it the loop goes on with what it knows, also after a restart.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from edge_agent.board import Board
from edge_agent.policy.events import (
    AssignmentReceived,
    Cancel,
    Command,
    Event,
    Hasten,
    Job,
    KeepAssignment,
)
from edge_agent.worker import Worker
from federation.contract.types import Assignment, ObservedVersion
from federation.runtime.clock import Clock
from federation.runtime.files import write_atomic

log = logging.getLogger(__name__)

Inbox = asyncio.Queue[Event]


class Decider(Protocol):
    """What decides: the reconciler, or the view of an engine that is only looked at."""

    assignment: Assignment | None

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event at `now` (monotonic seconds) and return what to do, in order."""
        ...

    def observed(self) -> tuple[ObservedVersion, ...]:
        """Return every version as it stands."""
        ...


class AssignmentFile:
    """The desired state on disk: what lets an agent serve after a restart, all by itself."""

    def __init__(self, state_dir: Path, *, cluster: str) -> None:
        self._path = state_dir / "assignment.json"
        self._cluster = cluster

    def __repr__(self) -> str:
        return f"AssignmentFile({self._path}, {self._cluster})"

    def read(self) -> Assignment | None:
        """Return what was kept; None if there is none that can be used, which is logged."""
        try:
            assignment = msgspec.json.decode(self._path.read_bytes(), type=Assignment)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s cannot be used; the control plane is asked: %s", self._path, error)
            return None
        if assignment.cluster != self._cluster:
            log.warning("%s is of cluster %r: not used", self._path, assignment.cluster)
            return None
        return assignment

    def keep(self, assignment: Assignment) -> None:
        """Replace what was kept. A full disk is logged and costs only the next restart."""
        try:
            write_atomic(self._path, msgspec.json.encode(assignment))
        except OSError:
            log.exception("the assignment could not be kept: a restart needs the control plane")


class AgentLoop:
    """The only writer of what this agent knows of its models."""

    def __init__(
        self,
        *,
        decider: Decider,
        worker: Worker,
        inbox: Inbox,
        board: Board,
        file: AssignmentFile,
        clock: Clock,
    ) -> None:
        self._decider = decider
        self._worker = worker
        self._inbox = inbox
        self._board = board
        self._file = file
        self._clock = clock
        # Called in a thread with each new assignment, before any job of it starts.
        self.on_assignment: list[Callable[[Assignment], None]] = []
        self._listeners: list[Callable[[], None]] = []
        self.events = 0

    def __repr__(self) -> str:
        return f"AgentLoop({self._decider!r}, events={self.events}, waiting={self._inbox.qsize()})"

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after every event."""
        self._listeners.append(listener)

    def restore(self) -> None:
        """Put the assignment of this agent's last life into the inbox, if there was one."""
        if (assignment := self._file.read()) is not None:
            self._inbox.put_nowait(AssignmentReceived(assignment=assignment))

    async def run(self) -> None:
        """Take events, for ever."""
        while True:
            event = await self._inbox.get()
            self.events += 1
            for command in self._decider.handle(event, self._clock.monotonic_s()):
                match command:
                    case KeepAssignment():
                        await asyncio.to_thread(self._file.keep, command.assignment)
                        for hear in self.on_assignment:
                            await asyncio.to_thread(hear, command.assignment)
                    case Cancel():
                        self._worker.cancel(command.job)
                    case Hasten():
                        self._worker.hasten(command)
                    case Job():
                        self._worker.start(command)
            generation = self._decider.assignment.generation if self._decider.assignment else 0
            self._board.show(generation, self._decider.observed())
            for listener in self._listeners:
                listener()
