"""A control plane that kills itself with SIGKILL at chosen transitions of rollouts.

Input: the command line of the control plane, and one line on stdin for each life: the transitions
to die at, each as [phase or null, turn, moment]; the moment is "before" the commit that holds it,
"after" it (nothing was published yet), or "later" by a few ms. Output: one line on stdout when a
life begins and one when it is over, and a journal of all that was loaded and committed.

Each life is a process of its own, forked from this one, which has imported everything already: a
start costs a tenth of the CPU time that a fresh interpreter takes.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import federation.app
from federation.policy.events import Delete, Put
from federation.policy.rollouts.records import RolloutRecord
from federation.store.base import Loaded, Write
from federation.store.sqlite import SqliteStore

JOURNAL = "FED_TEST_JOURNAL"
MOST_LATE_S = 0.03
Turn = tuple[str | None, str]


class DoomedStore(SqliteStore):
    """A store that writes a journal, and at some commits ends the process."""

    doom: dict[Turn, str]  # the moment to die, by transition
    journal: int  # a file descriptor

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._known: dict[str, RolloutRecord] = {}

    def load(self) -> Loaded:
        loaded = super().load()
        rollouts = loaded.records.get("Rollout", {})
        shown = {}
        for name, record in rollouts.items():
            assert isinstance(record, RolloutRecord)
            self._known[name] = record
            shown[name] = [len(record.history), record.phase, record.wave, record.step]
        self._write({"loaded": shown})
        return loaded

    def commit(self, batch: Sequence[Write], revision: int) -> None:
        lines = list(self._new_passages(batch))
        meant = [turn for line in lines if (turn := (line["was"], line["event"])) in self.doom]
        moment = self.doom[meant[0]] if meant else ""
        if moment == "before":
            self._write({"killed": meant, "moment": moment})
            os.kill(os.getpid(), signal.SIGKILL)
        if lines:
            self._write({"commits": lines})  # whether it did is told below, or by the next load
        super().commit(batch, revision)
        if lines:
            self._learn(batch)
            self._write({"committed": len(lines)})
        if moment:
            self._write({"killed": meant, "moment": moment})
            if moment == "later":
                self.doom = {}
                threading.Thread(target=_die_soon, daemon=True).start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    def _learn(self, batch: Sequence[Write]) -> None:
        for name, record in newest_of(batch).items():
            if record is None:
                self._known.pop(name, None)
            else:
                self._known[name] = record

    def _new_passages(self, batch: Sequence[Write]) -> Iterator[dict[str, Any]]:
        for name, record in newest_of(batch).items():
            held = self._known.get(name)
            start = len(held.history) if held else 0
            if record is None and held:
                yield line_of(held, start, was=held.phase, event="forgotten", now=None)
            for index, passage in enumerate(record.history[start:] if record else (), start):
                assert record
                was = passage.was if index else None
                told = {"was": was, "event": passage.event, "now": passage.now}
                yield line_of(record, index, **told, wave=passage.wave, step=passage.step)

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self.journal, json.dumps(line).encode() + b"\n")


def newest_of(batch: Sequence[Write]) -> dict[str, RolloutRecord | None]:
    """Return the rollouts that a commit changes; None = it deletes it."""
    newest: dict[str, RolloutRecord | None] = {}
    for write in batch:
        if isinstance(write, Put) and isinstance(write.record, RolloutRecord):
            newest[write.name] = write.record
        if isinstance(write, Delete) and write.kind == "Rollout":
            newest[write.name] = None
    return newest


def line_of(record: RolloutRecord, index: int, **told: object) -> dict[str, Any]:
    """Return what the journal tells of one passage."""
    line: dict[str, Any] = {"rollout": record.meta.name, "model": record.spec.model}
    line |= {"stable": record.stable, "canary": record.canary, "index": index}
    return line | {"wave": record.wave, "step": record.step} | told


def _die_soon() -> None:
    time.sleep(random.random() * MOST_LATE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def live(doom: list[tuple[str | None, str, str]], arguments: list[str]) -> int:
    """Be a control plane until it is over; returns the exit code."""
    DoomedStore.doom = {(was, turn): moment for was, turn, moment in doom}
    DoomedStore.journal = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    vars(federation.app)["SqliteStore"] = DoomedStore
    return federation.app.main(arguments)


def main() -> None:
    """Live one life for each line of stdin."""
    for line in sys.stdin:
        doom = json.loads(line)
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(2, 1)
            os._exit(live(doom, sys.argv[1:]))
        print(json.dumps({"pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
