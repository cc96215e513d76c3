"""What one cluster does next, so that what it serves becomes what it was assigned.

Input: events of `edge_agent.policy.events`, each with the time. Output: commands for the agent's
loop; and for reports and the gateway, the state of every version. No clock, no dice of its own, no
I/O.

Each event changes what is known; then `_settle` takes every step that follows from it, and `_plan`
starts the jobs for which there is room. The old version of a model stays until the new one is warm.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from edge_agent.policy.events import (
    AssignmentReceived,
    Cancel,
    Command,
    EngineListed,
    EngineLost,
    Event,
    Hasten,
    Job,
    JobDone,
    JobFailed,
    KeepAssignment,
    Key,
    ServingDoubted,
    Task,
    Ticked,
)
from edge_agent.policy.lifecycle import Record, Step, new_record
from edge_agent.policy.schedule import EngineView, Patience, Situation, next_jobs, same_number
from edge_agent.policy.steps import HELD, View
from federation.contract.capacity import Resources
from federation.contract.types import (
    AssignedVersion,
    Assignment,
    ObservedVersion,
    Urgency,
    VersionState,
)
from federation.runtime.backoff import Dice

_CHANGING = {Task.LOAD, Task.RESIZE, Task.HEAL, Task.UNLOAD}  # jobs that change what the engine has
_RETRY: dict[Task, Step] = {
    Task.STAGE: Step.STAGING_RETRIED,
    Task.VERIFY: Step.STAGING_RETRIED,
    Task.LOAD: Step.LOADING_RETRIED,
    Task.HEAL: Step.LOADING_RETRIED,
    Task.WARM_UP: Step.WARMING_RETRIED,
}


class Reconciler:
    """The agent's decisions about versions. `handle` is its only way in."""

    def __init__(self, *, dice: Dice, patience: Patience | None = None) -> None:
        self._dice = dice
        self._patience = patience or Patience()
        self.assignment: Assignment | None = None
        self.engine = EngineView.UNKNOWN
        self.records: dict[Key, Record] = {}
        self._wanted: dict[Key, AssignedVersion] = {}
        self._listed: dict[Key, str] = {}  # what the engine has, by digest
        self._running: dict[Key, int] = {}  # and with how many replicas, as it told last
        self._settled_s: dict[Key, float] = {}  # when a job of ours last changed the engine
        self._identity = ""
        self._silent_since_s: float | None = None
        self._last_job = 0
        self._commands: list[Command] = []

    def __repr__(self) -> str:
        generation = self.assignment.generation if self.assignment else None
        states = dict(Counter(str(r.state) for r in self.records.values()))
        return f"Reconciler(generation={generation}, engine {self.engine}, {states})"

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event at `now` (monotonic seconds) and return what to do, in order."""
        match event:
            case AssignmentReceived():
                self._assign(event, now)
            case EngineListed():
                self._engine_listed(event, now)
            case EngineLost():
                self._engine_lost(event, now)
            case JobDone():
                self._job_done(event, now)
            case JobFailed():
                self._job_failed(event, now)
            case ServingDoubted():
                record = self.records.get((event.model, event.version))
                if record is not None and record.state is VersionState.WARMED:
                    self._put(replace(record, doubt=event.reason))
            case Ticked():
                pass
        self._settle(now)
        self._plan(now)
        commands, self._commands = self._commands, []
        return commands

    def observed(self) -> tuple[ObservedVersion, ...]:
        """Return every version as it stands."""
        return tuple(
            ObservedVersion(
                model=r.model,
                version=r.version,
                digest=r.digest,
                state=r.state,
                reason=r.reason or r.doubt,
                replicas=self._replicas(r) if r.state in HELD else 0,
                protocol=r.protocol,
                losses=r.losses,
            )
            for _, r in sorted(self.records.items())
        )

    # ------------------------------------------------------------ what each event tells

    def _assign(self, event: AssignmentReceived, now: float) -> None:
        new, old = event.assignment, self.assignment
        if new.generation == 0:  # the control plane has not decided anything: touch nothing
            return
        if old is not None and (
            new == old or (new.generation <= old.generation and not event.fresh)
        ):
            return
        self.assignment = new
        self._wanted = {(v.model, v.version): v for v in new.versions}
        self._commands.append(KeepAssignment(assignment=new))
        self._retry_soon(now, _RETRY.values())
        self._hasten()

    def _hasten(self) -> None:
        """Tell transfers that run which of them became more urgent."""
        for key, wanted in self._wanted.items():
            record = self.records.get(key)
            job = record.job if record else None
            if record and job and job.task is Task.STAGE and wanted.urgency > job.urgency:
                self._put(replace(record, job=replace(job, urgency=wanted.urgency)))
                self._commands.append(Hasten(job=job.id, urgency=wanted.urgency))

    def _engine_listed(self, event: EngineListed, now: float) -> None:
        restarted = "" not in (self._identity, event.identity) and self._identity != event.identity
        returned = restarted or self.engine is EngineView.DOWN
        self._identity = event.identity or self._identity
        self.engine, self._silent_since_s = EngineView.UP, None
        listed = {(v.model, v.version): v.digest for v in event.loaded}
        self._running = {(v.model, v.version): v.replicas for v in event.loaded}
        for key in set(self.records) | set(self._listed) | set(listed):
            if self._settled_s.get(key, float("-inf")) >= event.asked_s or self._changing(key):
                continue  # a job of ours knows better
            if restarted or key not in listed:
                self._listed.pop(key, None)
                self._lose(key)
            if key in listed:
                self._listed[key] = listed[key] or self._listed.get(key, "")
                if (record := self.records.get(key)) is not None:
                    at_engine = listed[key] or record.at_engine or ""
                    self._put(replace(record, at_engine=at_engine))
        if returned:
            self._retry_soon(now, {Step.LOADING_RETRIED, Step.WARMING_RETRIED})

    def _engine_lost(self, event: EngineLost, now: float) -> None:
        if self._silent_since_s is None:
            self._silent_since_s = now
        if self.engine is EngineView.UNKNOWN:
            self.engine = EngineView.DOWN
        if now - self._silent_since_s < self._patience.engine_lost_s:
            return
        self.engine = EngineView.DOWN
        for record in [r for r in self.records.values() if r.state in HELD]:
            # `at_engine` stays as it is: the engine may come back with it.
            self._take(record, Step.LOST, doubt="", reason=event.reason)

    def _lose(self, key: Key) -> None:
        """The engine does not have this version."""
        record = self.records.get(key)
        if record is None:
            return
        record = replace(record, at_engine=None)
        if record.state in HELD:
            self._take(record, Step.LOST, heal=False, doubt="")
        elif record.state is VersionState.DRAINING:
            self._unloaded(record)
        elif record.state is VersionState.FAILED and record.retry is Step.WARMING_RETRIED:
            self._put(replace(record, retry=Step.LOADING_RETRIED))
        else:
            self._put(record)

    def _job_done(self, event: JobDone, now: float) -> None:
        record = self._of_job(event)
        if record is None or record.job is None:
            return
        job, record = record.job, replace(record, job=None)
        match job.task:
            case Task.STAGE:
                self._take(record, Step.STAGED, staged=True, protocol=event.protocol, reason="")
            case Task.VERIFY:
                self._take(record, Step.VERIFIED, verified=True, reason="")
            case Task.LOAD | Task.HEAL | Task.RESIZE:
                self._settled_s[record.key] = now
                self._listed[record.key] = job.digest
                self._running[record.key] = job.replicas
                has = {"replicas": job.replicas, "max_replicas": job.max_replicas}
                if job.task is Task.RESIZE:
                    fine = {"checked_s": now, "doubt": "", "reason": "", "failures": 0}
                    self._take(record, Step.RESIZED, at_engine=job.digest, **has, **fine)
                else:
                    self._take(record, Step.LOADED, at_engine=job.digest, **has, heal=False)
            case Task.WARM_UP:
                fine = {"reason": "", "failures": 0}
                if self._cannot_resize(record):
                    fine = {}  # it serves as before; why not otherwise stays known
                self._take(record, Step.WARMED, checked_s=now, doubt="", **fine)
            case Task.DRAIN:
                self._put(replace(record, drained=True))
            case Task.UNLOAD:
                self._settled_s[record.key] = now
                self._listed.pop(record.key, None)
                self._unloaded(record)

    def _job_failed(self, event: JobFailed, now: float) -> None:
        record = self._of_job(event)
        if record is None or record.job is None:
            return
        task, failures = record.job.task, record.failures + 1
        delay_s = self._patience.retry.delay_s(failures, self._dice)
        record = replace(
            record, job=None, reason=event.reason, failures=failures, retry_s=now + delay_s
        )
        if task in _CHANGING:
            self._settled_s[record.key] = now
        if task is Task.DRAIN:
            self._put(replace(record, drained=True))
        elif task is Task.UNLOAD:
            self._put(record)  # as it was; tried again later
        elif task is Task.RESIZE:
            self._put(replace(record, doubt=event.reason))  # does it serve still?
        elif task is Task.WARM_UP:
            self._warming_failed(record, event, now)
        else:
            bytes_bad = {"staged": False, "verified": False} if task is Task.VERIFY else {}
            self._take(record, Step.FAILED, retry=_RETRY[task], **bytes_bad)

    def _warming_failed(self, record: Record, event: JobFailed, now: float) -> None:
        often = record.failures >= self._patience.warm_failures
        # No answer is first of all the engine's fault, unless it answers everything else.
        to_blame = not event.engine_down or (often and self._silent_since_s is None)
        if record.state is VersionState.WARMED:
            if to_blame:
                self._take(record, Step.DISPROVED, heal=True, doubt="")
            else:
                self._put(replace(record, reason="", checked_s=now))
        elif often and to_blame:
            self._take(record, Step.FAILED, retry=Step.LOADING_RETRIED, heal=True)
        else:
            self._take(record, Step.FAILED, retry=Step.WARMING_RETRIED)

    # ------------------------------------------------------------ what follows from it

    def _settle(self, now: float) -> None:
        """Take every step that needs no job, until none is left."""
        if self.assignment is None:
            return
        view = View(self.records, self._wanted, self._listed, self.engine, now)
        for key in sorted(set(self.records) | set(self._wanted) | set(self._listed)):
            while (step := view.next_step(key)) is not None:
                self._step(key, step)

    def _step(self, key: Key, step: Step) -> None:
        record, wanted = self.records.get(key), self._wanted.get(key)
        if record is None:
            digest = wanted.digest if wanted else self._listed.get(key, "")
            self._put(new_record(key, step, digest, self._listed.get(key)))
            return
        changes: dict[str, object] = {}
        if step in (Step.ASSIGNED, Step.REPLACED) and wanted is not None:
            changes = {"digest": wanted.digest, "staged": False, "failures": 0, "reason": ""}
            changes["verified"] = record.verified and record.digest == wanted.digest
            changes["replicas"] = wanted.replicas
            changes["max_replicas"] = wanted.max_replicas
        elif step is Step.ADOPTED and wanted is not None:
            told = self._running.get(key, wanted.replicas)
            most = wanted.max_replicas  # as many as its autoscaler has chosen are right
            changes = {"replicas": wanted.replicas if most else told, "max_replicas": most}
            changes["reason"] = ""
        elif step in (Step.RETIRED, Step.STRAY):
            changes = {"drained": step is Step.STRAY, "failures": 0, "doubt": "", "reason": ""}
        self._take(record, step, **changes)

    # ------------------------------------------------------------ which jobs start

    def _plan(self, now: float) -> None:
        situation = Situation(
            wanted=self._wanted, engine=self.engine, patience=self._patience, now=now
        )
        for task, record in next_jobs(self.records.values(), situation):
            self._last_job += 1
            wanted = self._wanted.get(record.key)
            job = Job(
                id=self._last_job,
                task=task,
                model=record.model,
                version=record.version,
                digest=record.digest,
                replicas=wanted.replicas if wanted else record.replicas,
                max_replicas=wanted.max_replicas if wanted else record.max_replicas,
                urgency=wanted.urgency if wanted else Urgency.NORMAL,
                needs=wanted.needs if wanted else Resources(),
            )
            self._put(replace(record, job=job))
            self._commands.append(job)

    # ------------------------------------------------------------ small parts

    def _put(self, record: Record) -> Record:
        self.records[record.key] = record
        return record

    def _take(self, record: Record, step: Step, **changes: object) -> Record | None:
        """Replace a record by the one after `step`; a job that is still running is abandoned."""
        if record.job is not None:
            self._commands.append(Cancel(job=record.job.id))
        after = record.take(step, job=None, **changes)
        if after is None:
            del self.records[record.key]
            return None
        return self._put(after)

    def _replicas(self, record: Record) -> int:
        """Return how many replicas a loaded version has; fewer than it shall have while the engine
        replaces some."""
        running = self._running.get(record.key, record.replicas)
        return running if record.max_replicas else min(running or 1, record.replicas)

    def _cannot_resize(self, record: Record) -> bool:
        wanted = self._wanted.get(record.key)
        warm = record.state is VersionState.WARMED
        return warm and wanted is not None and not same_number(record, wanted)

    def _unloaded(self, record: Record) -> None:
        step = Step.UNLOADED if record.staged else Step.FORGOTTEN
        self._take(record, step, at_engine=None, heal=False, failures=0, reason="")

    def _of_job(self, event: JobDone | JobFailed) -> Record | None:
        """Return the record that waits for this outcome; None for an outcome of the past."""
        record = self.records.get((event.model, event.version))
        waits = record is not None and record.job is not None and record.job.id == event.job
        return record if waits else None

    def _changing(self, key: Key) -> bool:
        record = self.records.get(key)
        return record is not None and record.job is not None and record.job.task in _CHANGING

    def _retry_soon(self, now: float, steps: Collection[Step]) -> None:
        for record in self.records.values():
            if record.state is VersionState.FAILED and record.retry in steps:
                self._put(replace(record, retry_s=now))
