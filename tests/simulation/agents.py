"""An edge agent in a simulation: the real reconciler and session; its engine and disk are made up.

Input: assignments, at a virtual time; requests. Output: reports and answers. What a version does to
its engine is set by `Temper`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from edge_agent.policy.events import (
    AssignmentReceived,
    Cancel,
    EngineListed,
    EngineLost,
    Job,
    JobDone,
    JobFailed,
    KeepAssignment,
    Listed,
    Task,
)
from edge_agent.policy.reconcile import Reconciler
from edge_agent.policy.session import LinkState, Session, Welcomed
from federation.contract.capacity import GPU, Capacity, Pool
from federation.contract.rollout import GoldenResult
from federation.contract.types import (
    Assignment,
    EngineKind,
    EngineStatus,
    Observed,
    Report,
    VersionState,
)
from router.policy.retry import Failed
from router.policy.signals import Ending

Key = tuple[str, int]
SLOWEST_S = {Task.STAGE: 6.0, Task.LOAD: 3.0, Task.HEAL: 3.0, Task.WARM_UP: 1.0, Task.DRAIN: 2.0}
POLL_S, IDLE_S = 3.0, 30.0  # between two looks at the engine; where there is nothing
SERVED = (VersionState.WARMED, VersionState.DRAINING)  # what a gateway lets requests come to
TOOK_S = [random.Random(i).lognormvariate(-3.9, 0.4) for i in range(997)]  # about 20 ms


@dataclass(slots=True)
class Temper:
    """What is wrong with versions: they fail to load, crash the engine so many seconds after they
    were loaded, answer golden inputs wrongly, fail a share of requests, or are so many times slower
    than others."""

    fails: set[Key] = field(default_factory=set)
    crashes: dict[Key, float] = field(default_factory=dict)
    wrong: set[Key] = field(default_factory=set)
    errs: dict[Key, float] = field(default_factory=dict)
    slow: dict[Key, float] = field(default_factory=dict)

    def spoil(self, model: str, version: int, fault: str) -> None:
        """Have something wrong with a version."""
        match fault:
            case "fails":
                self.fails.add((model, version))
            case "crashes at once":
                self.crashes[model, version] = 0.0
            case "crashes later":
                self.crashes[model, version] = 6.0
            case "wrong":
                self.wrong.add((model, version))
            case "errs":
                self.errs[model, version] = 0.05
            case "slow":
                self.slow[model, version] = 10.0
            case _:
                raise ValueError(fault)


class Agent:
    """`room` is how many versions its engine has memory for; `on_unload` is told what is unloaded
    on purpose."""

    def __init__(
        self,
        name: str,
        temper: Temper,
        dice: random.Random,
        *,
        room: int,
        on_unload: Callable[[str, Key], None],
    ) -> None:
        self.name, self.temper, self.dice, self.room = name, temper, dice, room
        self.on_unload = on_unload
        self.kept: Assignment | None = None  # on its disk
        self.loaded: dict[Key, tuple[str, float]] = {}  # digest, and since when
        self.identity = 1
        self.down_until = -1.0
        self.start(0.0)

    def start(self, now_s: float) -> None:
        """The agent's process starts; its engine goes on."""
        self.reconciler = Reconciler(dice=self.dice)
        self.session = Session(dice=self.dice)
        self.jobs: dict[int, tuple[float, Job]] = {}
        self.told: tuple[object, ...] = ()
        self.seen: Observed | None = None  # nothing changed since
        self.looks_s = 0.0
        if self.kept is not None:
            self.handle(AssignmentReceived(assignment=self.kept), now_s)
        self.poll(now_s)

    # ------------------------------------------------------------ the link

    @property
    def joined(self) -> bool:
        return self.session.state is LinkState.JOINED

    def welcome(self, epoch: int, assignment: Assignment, now_s: float) -> None:
        self.session.dialled()
        self.session.welcomed(Welcomed(epoch=epoch, report_interval_s=5.0), now_s)
        self.assign(assignment, now_s, fresh=True)

    def cut(self, now_s: float) -> None:
        if self.joined:
            self.session.broken("cut", now_s)

    def assign(self, assignment: Assignment, now_s: float, *, fresh: bool = False) -> None:
        self.handle(AssignmentReceived(assignment=assignment, fresh=fresh), now_s)

    def report(self, now_s: float) -> Report | None:
        """Return a report if one is due."""
        if not self.joined:
            return None
        if (observed := self.seen) is None:
            observed = self.seen = self.observed(now_s)
            if observed.versions != self.told:
                self.session.changed()
        if now_s < self.session.report_s():
            return None
        self.told = observed.versions
        epoch, sequence = self.session.stamp_report(now_s)
        return Report(
            cluster=self.name,
            epoch=epoch,
            sequence=sequence,
            capacity=self.capacity(),
            observed=observed,
            url=f"https://{self.name}:7500",
        )

    def capacity(self) -> Capacity:
        """Return its GPUs: one for each version that it has memory for."""
        ours = len(self.loaded)
        pool = Pool(
            node="n",
            resource=GPU,
            vendor="v",
            physical=self.room,
            total=self.room,
            allocatable=self.room,
            free=self.room - ours,
            ours=ours,
        )
        return Capacity(pools=(pool,))

    def observed(self, now_s: float) -> Observed:
        versions = []
        for seen in self.reconciler.observed():
            key = (seen.model, seen.version)
            if seen.state is VersionState.WARMED:
                wrong = 2 if key in self.temper.wrong else 0
                seen = replace(seen, golden=GoldenResult(inputs=3, wrong=wrong, words="7 is odd"))
            versions.append(seen)
        held = self.reconciler.assignment
        up = now_s >= self.down_until
        return Observed(
            observed_generation=held.generation if held else 0,
            engine=EngineStatus(kind=EngineKind.TRITON, version="2", ready=up),
            versions=tuple(versions),
        )

    # ------------------------------------------------------------ the engine

    def crash_engine(self, now_s: float, for_s: float = 4.0) -> None:
        self.loaded.clear()
        self.identity += 1
        self.down_until = now_s + for_s
        self.looks_s = now_s

    def poll(self, now_s: float) -> None:
        if now_s < self.down_until:
            self.handle(EngineLost(reason="the engine does not answer"), now_s)
            return
        listed = tuple(
            Listed(model=m, version=v, digest=d) for (m, v), (d, _) in self.loaded.items()
        )
        event = EngineListed(identity=f"engine {self.identity}", loaded=listed, asked_s=now_s)
        self.handle(event, now_s)

    def tick(self, now_s: float) -> None:
        for key, after_s in self.temper.crashes.items():
            if key in self.loaded and now_s >= self.loaded[key][1] + after_s:
                self.crash_engine(now_s)
                break
        for number, (due_s, job) in sorted(self.jobs.items()):
            if due_s <= now_s and number in self.jobs:
                del self.jobs[number]
                self.finish(job, now_s)
        if now_s >= self.looks_s:
            self.looks_s = now_s + (POLL_S if self.loaded or self.jobs or self.told else IDLE_S)
            self.poll(now_s)

    def finish(self, job: Job, now_s: float) -> None:
        reason, down = "", now_s < self.down_until
        at_engine = job.task in (Task.LOAD, Task.HEAL, Task.WARM_UP, Task.UNLOAD, Task.RESIZE)
        if at_engine and down:
            reason = "the engine does not answer"
        elif job.task in (Task.LOAD, Task.HEAL):
            if job.key in self.temper.fails:
                reason = "opset 99 is not supported"
            elif job.key not in self.loaded and len(self.loaded) >= self.room:
                reason = "out of memory"
            else:
                self.loaded[job.key] = (job.digest, now_s)
        elif job.task is Task.WARM_UP and job.key not in self.loaded:
            reason = "not loaded"
        elif job.task is Task.UNLOAD:
            self.on_unload(self.name, job.key)
            self.loaded.pop(job.key, None)
        if reason:
            failed = JobFailed(
                job=job.id, model=job.model, version=job.version, reason=reason, engine_down=down
            )
            self.handle(failed, now_s)
        else:
            self.handle(JobDone(job=job.id, model=job.model, version=job.version), now_s)

    def handle(self, event: object, now_s: float) -> None:
        self.seen = None
        for command in self.reconciler.handle(event, now_s):  # type: ignore[arg-type]
            match command:
                case Job():
                    took_s = self.dice.uniform(0.1, SLOWEST_S.get(command.task, 1.0))
                    self.jobs[command.id] = (now_s + took_s, command)
                case Cancel(job=number):
                    self.jobs.pop(number, None)
                case KeepAssignment(assignment=assignment):
                    self.kept = assignment
                case _:
                    pass

    # ------------------------------------------------------------ requests

    def answer(self, key: Key, size: int, now_s: float) -> list[tuple[int, float]] | Failed:
        """Answer a few requests, as gateway and engine do: status and seconds of each."""
        record = self.reconciler.records.get(key)
        if record is None or record.state not in SERVED:
            return self._refused("not-serving", 503)
        if key not in self.loaded or now_s < self.down_until:
            return self._refused("its engine failed under the request", 500)
        roll, errs = self.dice.random, self.temper.errs.get(key, 0.0)
        times = self.temper.slow.get(key, 1.0)
        return [
            (500 if roll() < errs else 200, times * TOOK_S[int(roll() * len(TOOK_S))])
            for _ in range(size)
        ]

    def _refused(self, reason: str, status: int) -> Failed:
        return Failed(cluster=self.name, ending=Ending.REFUSED, reason=reason, status=status)
