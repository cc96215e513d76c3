"""What a control plane that is killed again and again committed of rollouts, as it wrote it down.

Input: the journal of `doomed_plane`. Output: passages in the order of their commits; an
AssertionError if a life began elsewhere than the last one ended, or if a passage came twice.
"""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federation.policy.rollouts.table import TRANSITIONS

Turn = tuple[str | None, str]
TABLE = {
    (was and was.value, turn.value): now and now.value for (was, turn), now in TRANSITIONS.items()
}


@dataclass
class Told:
    """A rollout as it was committed last."""

    model: str
    stable: int
    canary: int
    events: list[str] = field(default_factory=list)
    turns: set[Turn] = field(default_factory=set)
    phase: str = ""
    wave: int = 0
    step: int = 0
    forgotten: bool = False

    @property
    def standing(self) -> list[Any]:
        return [len(self.events), self.phase, self.wave, self.step]


class Journal:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.rollouts: dict[str, Told] = {}
        self.killed: list[tuple[Turn, str]] = []
        self.loads = 0
        self._read = 0
        self._under_way: list[dict[str, Any]] = []  # of a commit that may have been the last thing

    def read(self) -> bool:
        """Take what is new; returns whether there was any."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))
        return bool(whole)

    def _take(self, line: dict[str, Any]) -> None:
        if "killed" in line:
            self.killed += [((was, event), line["moment"]) for was, event in line["killed"]]
        elif "loaded" in line:
            self.loads += 1
            if self._known() != line["loaded"]:
                self._pass_all()  # it was killed right after a commit
            assert line["loaded"] == self._known(), "a life began elsewhere than the last one ended"
            self._under_way = []
        elif "commits" in line:
            self._under_way = line["commits"]
        else:
            self._pass_all()

    def _known(self) -> dict[str, list[Any]]:
        return {n: told.standing for n, told in self.rollouts.items() if not told.forgotten}

    def _pass_all(self) -> None:
        for line in self._under_way:
            self._passage(line)
        self._under_way = []

    def _passage(self, line: dict[str, Any]) -> None:
        name, was, event = line["rollout"], line["was"], line["event"]
        if name not in self.rollouts:
            self.rollouts[name] = Told(line["model"], line["stable"], line["canary"])
        told = self.rollouts[name]
        assert line["index"] == len(told.events), f"{name}: {event} is out of turn, or came twice"
        assert (was or "") == told.phase, f"{name}: {event} from {was}, but it was {told.phase}"
        assert TABLE[was, event] == line["now"]
        told.turns.add((was, event))
        if line["now"] is None:
            told.forgotten = True
            return
        assert line["wave"] >= told.wave, f"{name} went back to an earlier wave"
        if line["wave"] == told.wave:
            assert line["step"] >= told.step, f"{name} went back to an earlier step"
        told.stable, told.canary = line["stable"], line["canary"]
        told.phase, told.wave, told.step = line["now"], line["wave"], line["step"]
        told.events.append(event)

    def of_model(self, model: str) -> list[Told]:
        """Return the rollouts of a model, the older ones first."""
        return [told for told in self.rollouts.values() if told.model == model]

    def promoted(self, model: str, version: int) -> bool:
        """Whether a version became the stable one of a model in a rollout."""
        return any(
            told.phase == "promoted" and told.canary == version for told in self.of_model(model)
        )

    async def follow(self) -> None:
        """Read on and on; for a task."""
        while True:
            self.read()
            await asyncio.sleep(0.01)
