"""An engine and a worker, played for the reconciler; each decision is checked against the rules."""

import random
from collections.abc import Iterable
from dataclasses import replace

from edge_agent.policy.events import (
    AssignmentReceived,
    Cancel,
    Command,
    EngineListed,
    Event,
    Hasten,
    Job,
    JobDone,
    JobFailed,
    KeepAssignment,
    Key,
    Listed,
    Task,
    Ticked,
)
from edge_agent.policy.reconcile import Reconciler
from edge_agent.policy.schedule import BOUNDS, LANES
from federation.contract.types import (
    AssignedVersion,
    Assignment,
    ModelProtocol,
    Urgency,
    VersionState,
)

S = VersionState


def digest_of(key: Key) -> str:
    return f"digest-{key[0]}-{key[1]}"


class World:
    """An engine and a worker that do what the reconciler says, one job at a time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.generation = 0
        self.engine: dict[Key, str] = {}
        self.replicas: dict[Key, int] = {}  # 1 if not told
        self.identity = "first"
        self.jobs: dict[int, Job] = {}
        self.kept: Assignment | None = None
        self.warm: set[Key] = set()  # answered since last loaded
        self.told: list[str] = []
        self.reconciler = Reconciler(dice=random.Random(1))

    def send(self, event: Event) -> list[Command]:
        before = {key: r.state for key, r in self.reconciler.records.items()}
        commands = self.reconciler.handle(event, self.now)
        for command in commands:
            match command:
                case Job():
                    self.jobs[command.id] = command
                    self.told.append(f"{command.task} {command.model}@{command.version}")
                case Cancel():
                    del self.jobs[command.job]
                case Hasten():
                    self.check_urgency(command)
                case KeepAssignment():
                    self.kept = command.assignment
        self.check(before, commands)
        return commands

    def check_urgency(self, command: Hasten) -> None:
        job = self.jobs[command.job]
        assert job.task is Task.STAGE
        assert command.urgency > job.urgency
        self.jobs[command.job] = replace(job, urgency=command.urgency)

    def check_job(self, job: Job, wanted: set[Key]) -> None:
        if job.task in (Task.UNLOAD, Task.DRAIN):
            assert self.kept is not None
            assert job.key not in wanted
        if job.task in (Task.LOAD, Task.RESIZE, Task.HEAL, Task.WARM_UP) and job.key not in wanted:
            state = self.reconciler.records[job.key].state
            assert state is S.WARMED, "only one that leaves after its successor is kept going"
        versions = self.kept.versions if self.kept else ()
        urgencies = {(v.model, v.version): v.urgency for v in versions}
        assert job.urgency is urgencies.get(job.key, Urgency.NORMAL)

    def check(self, before: dict[Key, VersionState], commands: list[Command]) -> None:
        records = self.reconciler.records
        versions = self.kept.versions if self.kept else ()
        wanted = {(v.model, v.version) for v in versions if not v.stage_only}
        for key, record in records.items():
            if record.state is S.WARMED:
                assert key in self.warm, f"{record} never answered since it was loaded"
            if before.get(key) is S.WARMED and record.state is S.DRAINING:
                assert key not in wanted
                for other in wanted:
                    if other[0] == key[0]:
                        assert records[other].state is S.WARMED, "new before old"
        for command in commands:
            if isinstance(command, Job):
                self.check_job(command, wanted)
        held = {r.job.id for r in records.values() if r.job}
        assert held == set(self.jobs), "every job is known to both sides"
        for lane, bound in BOUNDS.items():
            assert sum(LANES[job.task] == lane for job in self.jobs.values()) <= bound

    def assign(
        self,
        *keys: Key,
        stage: Iterable[Key] = (),
        urgency: Urgency = Urgency.NORMAL,
        replicas: int = 1,
        max_replicas: int = 0,
        fresh: bool = False,
    ) -> list[Command]:
        """The control plane wants `keys` loaded and `stage` lying ready."""
        self.generation += 1
        wanted = [(key, False, urgency) for key in keys]
        wanted += [(key, True, Urgency.PREFETCH) for key in stage]
        versions = tuple(
            AssignedVersion(
                model=key[0],
                version=key[1],
                digest=digest_of(key),
                replicas=replicas,
                max_replicas=max_replicas,
                stage_only=stage_only,
                urgency=how,
            )
            for key, stage_only, how in wanted
        )
        assignment = Assignment(cluster="c", generation=self.generation, versions=versions)
        return self.send(AssignmentReceived(assignment=assignment, fresh=fresh))

    def ask(self, *, asked_s: float | None = None) -> list[Command]:
        loaded = tuple(
            Listed(model=m, version=v, digest=d, replicas=self.replicas.get((m, v), 1))
            for (m, v), d in self.engine.items()
        )
        asked_s = self.now if asked_s is None else asked_s
        self.now += 0.01
        return self.send(EngineListed(identity=self.identity, loaded=loaded, asked_s=asked_s))

    def restart_engine(self) -> None:
        self.engine.clear()
        self.warm.clear()
        self.identity = f"after-{self.identity}"

    def finish(self, job_id: int) -> list[Command]:
        job = self.jobs.pop(job_id)
        self.now += 0.01
        if job.task in (Task.LOAD, Task.HEAL, Task.RESIZE):
            self.replicas[job.key] = job.replicas
        if job.task in (Task.LOAD, Task.HEAL):
            self.engine[job.key] = job.digest
            self.warm.discard(job.key)
        elif job.task is Task.RESIZE:
            self.engine[job.key] = job.digest
            self.warm.add(job.key)
        elif job.task is Task.UNLOAD:
            self.engine.pop(job.key, None)
        elif job.task is Task.WARM_UP and job.key not in self.engine:
            return self.send(
                JobFailed(job=job.id, model=job.model, version=job.version, reason="not loaded")
            )
        elif job.task is Task.WARM_UP:
            self.warm.add(job.key)
        return self.send(
            JobDone(job=job.id, model=job.model, version=job.version, protocol=ModelProtocol.TENSOR)
        )

    def fail(self, job_id: int, *, engine_down: bool = False) -> list[Command]:
        job = self.jobs.pop(job_id)
        self.now += 0.01
        return self.send(
            JobFailed(
                job=job.id,
                model=job.model,
                version=job.version,
                reason=f"{job.task} failed",
                engine_down=engine_down,
            )
        )

    def run(self, rounds: int = 50) -> None:
        """Let everything that was started end well."""
        for _ in range(rounds):
            self.ask()
            while self.jobs:
                self.finish(min(self.jobs))
            self.now += 61
            self.send(Ticked())
            if not self.jobs and all(
                self.state(v.model, v.version) is (S.VERIFIED if v.stage_only else S.WARMED)
                for v in (self.kept.versions if self.kept else ())
            ):
                return

    def state(self, model: str, version: int) -> VersionState | None:
        record = self.reconciler.records.get((model, version))
        return record.state if record else None

    def take(self, task: Task) -> int:
        """The id of the one job of this kind."""
        (found,) = [job.id for job in self.jobs.values() if job.task is task]
        return found


def warm_world(*keys: Key) -> World:
    world = World()
    world.ask()
    world.assign(*keys)
    world.run()
    world.told.clear()
    return world
