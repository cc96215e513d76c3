"""One custom resource and one object of the control plane, as the decider's tests see them.

Input: what users, other clients and fate do. Output: what came of the decider's commands; the rules
of both servers that matter here: resource versions, finalizers, creation only where there is
nothing, receipts of creations.
"""

import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from federation.bridge.policy.custom import DEPLOYMENT, Bridged, Custom, read, spec_of
from federation.bridge.policy.decide import (
    Change,
    Command,
    Create,
    Facts,
    Note,
    Remove,
    Schedule,
    SetFinalizers,
    Steer,
    decide,
)
from federation.bridge.policy.status import Trouble
from federation.cli.documents import plain

Obj = dict[str, Any]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SILENT = Trouble("ControlPlaneUnreachable", "it does not answer.", silent=True)
REFUSED = Trouble("Refused", "model 'm' is unknown.")


def manifest(**spec: Any) -> Obj:
    return {
        "metadata": {
            "name": "d",
            "namespace": "n",
            "uid": "u-1",
            "resourceVersion": "100",
            "generation": 1,
        },
        "spec": {"model": "m", **spec},
    }


@dataclass
class World:
    """Both servers. `live` is what the control plane has, `foreign` whether it is not ours."""

    obj: Obj | None
    bridged: Bridged = DEPLOYMENT
    live: Obj | None = None
    foreign: bool = False
    receipts: dict[str, Obj] = field(default_factory=dict)
    refuses: bool = False  # the control plane refuses every creation and change
    silent: bool = False
    version: int = 100
    log: list[Command] = field(default_factory=list)
    list: Obj | None = None  # what was read of the control plane earlier

    # ------------------------------------------------------------ others

    def next(self) -> int:
        self.version += 1
        return self.version

    def edit(self, **spec: Any) -> None:
        if self.obj is not None and not self.obj["metadata"].get("deletionTimestamp"):
            self.obj["spec"] |= spec
            self.obj["metadata"]["generation"] += 1
            self._touch()

    def adopt(self) -> None:
        if self.obj is not None:
            self.obj["metadata"]["annotations"] = {"federation.inference/adopt": "true"}
            self._touch()

    def delete(self) -> None:
        if self.obj is None:
            return
        self.obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self._touch()

    def _touch(self) -> None:
        assert self.obj is not None
        self.obj["metadata"]["resourceVersion"] = str(self.next())
        meta = self.obj["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self.obj = None

    def make_foreign(self) -> None:
        if self.live is None:
            self.live, self.foreign = self._document({"model": "m", "replicas": 7}), True

    def lose(self) -> None:
        self.live, self.foreign = None, False

    def drift(self) -> None:
        if self.live is not None:
            self.live["spec"]["replicas"] = 9
            self.live["metadata"]["resourceVersion"] = self.next()

    def _document(self, spec: Obj) -> Obj:
        version = self.next()
        metadata = {"name": "d", "createdAt": f"t-{version}", "resourceVersion": version}
        status = {"ready": True, "reason": "", "scheduling": "active", "warm": 1, "wanted": 1}
        return {"metadata": metadata, "spec": spec, "status": status}

    # ------------------------------------------------------------ the bridge

    @property
    def custom(self) -> Custom | None:
        return read(self.bridged, copy.deepcopy(self.obj)) if self.obj is not None else None

    def facts(self) -> Facts:
        """What a bridge knows that has just looked, and remembers nothing."""
        if self.silent:
            return Facts(trouble=SILENT)
        return Facts(live=copy.deepcopy(self.live))

    def read(self) -> None:
        """Another bridge reads what the control plane has."""
        self.list = copy.deepcopy(self.live)

    def look_late(self) -> None:
        """It acts on what it read then; absence it looks up anew."""
        if not self.silent:
            self.look(facts=Facts(live=copy.deepcopy(self.list or self.live)))

    def look(self, *, steps: int = 8, facts: Facts | None = None) -> int:
        """Let the bridge do so many steps at most; returns how many there were."""
        facts = facts or self.facts()
        for number in range(steps):
            custom = self.custom
            command = decide(custom, facts, NOW) if custom is not None else None
            if custom is None or command is None:
                return number
            self.log.append(command)
            if self.stale(command):
                return number
            facts = self.perform(custom, command, facts)
        return steps

    def stale(self, command: Command) -> bool:
        """Whether the control plane refuses a command since its object has changed."""
        match command:
            case Change(expected=expected) | Remove(expected=expected):
                return self.live is None or self.live["metadata"]["resourceVersion"] != expected
            case Schedule():
                return self.live is None
            case _:
                return False

    def perform(self, custom: Custom, command: Command, facts: Facts) -> Facts:
        assert self.obj is not None
        match command:
            case Note(status=status):
                assert status != self.obj.get("status"), "nothing would change"
                self.obj["status"] = status
                if custom.adopt and self.live is not None:
                    taken = status.get("createdAt") == self.live["metadata"]["createdAt"]
                    self.foreign = self.foreign and not taken
                self._touch()
            case SetFinalizers(finalizers=finalizers):
                self.obj["metadata"]["finalizers"] = list(finalizers)
                self._touch()
            case _ if self.silent:
                return replace(facts, trouble=SILENT)
            case Create():
                return self._create(custom, command, facts)
            case _ if self.refuses and not isinstance(command, Remove):
                return replace(facts, trouble=REFUSED)
            case Change(spec=spec, expected=expected):
                assert self.live is not None
                assert expected == self.live["metadata"]["resourceVersion"]
                self.live["spec"] = plain(spec)
                self.live["metadata"]["resourceVersion"] = self.next()
                return replace(facts, live=copy.deepcopy(self.live))
            case Schedule(verb=verb) | Steer(verb=verb):
                assert self.live is not None
                words = {"uncordon": "active", "cordon": "cordoned", "drain": "draining"}
                self.live["status"]["scheduling"] = words[verb]
                return replace(facts, live=copy.deepcopy(self.live))
            case Remove(expected=expected):
                assert self.live is not None
                assert expected == self.live["metadata"]["resourceVersion"]
                assert not self.foreign, "somebody else's object was deleted"
                self.lose()
                return replace(facts, live=None)
        return facts

    def _create(self, custom: Custom, command: Create, facts: Facts) -> Facts:
        """As the control plane and the shell do it together."""
        claim, spec = command.claim, plain(command.spec)
        if command.key in self.receipts:
            same = self.receipts[command.key] == spec
            if same and self.live is None:
                return replace(facts, live=None, refuted=claim)
            return replace(facts, live=copy.deepcopy(self.live), proven=claim)
        if self.live is not None:
            return replace(facts, live=copy.deepcopy(self.live), refuted=claim)
        if self.refuses:
            return replace(facts, trouble=REFUSED)
        self.receipts[command.key] = spec
        self.live, self.foreign = self._document(spec), False
        return replace(facts, live=copy.deepcopy(self.live), proven=claim)

    # ------------------------------------------------------------ what can be told

    def condition(self, kind: str) -> Obj:
        assert self.obj is not None
        (found,) = [c for c in self.obj["status"]["conditions"] if c["type"] == kind]
        return dict(found)

    def told(self, kind: str = "Synced") -> tuple[str, str]:
        found = self.condition(kind)
        return found["status"], found["reason"]

    def as_wished(self) -> bool:
        custom = self.custom
        assert custom is not None
        return self.live is not None and self.live["spec"] == plain(spec_of(custom))
