"""Performs jobs; every outcome comes back as an event.

Input: jobs of the reconciler. Output: JobDone or JobFailed for the agent's loop. Each job is
bounded in time. A job never takes the worker with it: what goes wrong is its outcome.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.backends.base import Backend, BackendError, EngineUnreachable, StagedVersion
from edge_agent.policy.events import AT_ENGINE, Hasten, Job, JobDone, JobFailed, Key, Task
from edge_agent.sync.syncer import Syncer
from federation.contract.errors import FederationError, Invalid
from federation.contract.package import PACKAGE_FILE, parse_package
from federation.contract.types import ModelProtocol

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each kind of job may take. Seconds; staging is bounded by its own progress."""

    verify_s: float = 3600.0
    load_s: float = 600.0
    warm_up_s: float = 60.0
    unload_s: float = 60.0
    drain_s: float = 10.0
    drain_least_s: float = 1.0  # routers that have not heard yet still send for so long


class Worker:
    """Runs jobs side by side. `done` and `failed` count outcomes by task."""

    def __init__(
        self,
        *,
        backend: Backend,
        syncer: Syncer,
        in_flight: Callable[[str, int], int],
        emit: Callable[[JobDone | JobFailed], None],
        deadlines: Deadlines | None = None,
    ) -> None:
        self._backend = backend
        self._syncer = syncer
        self._in_flight = in_flight
        self._emit = emit
        self._deadlines = deadlines or Deadlines()
        self._staged: dict[Key, StagedVersion] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._jobs: dict[int, Job] = {}
        self.done: Counter[Task] = Counter()
        self.failed: Counter[Task] = Counter()
        d = self._deadlines
        self._ways: dict[Task, tuple[Callable[[Job], Awaitable[None]], float | None]] = {
            Task.STAGE: (self._stage, None),
            Task.VERIFY: (self._verify, d.verify_s),
            Task.LOAD: (self._load, d.load_s),
            Task.RESIZE: (self._resize, d.load_s + d.warm_up_s),
            Task.HEAL: (self._heal, d.load_s + d.unload_s),
            Task.WARM_UP: (self._warm_up, d.warm_up_s),
            Task.DRAIN: (self._drain, None),
            Task.UNLOAD: (self._unload, d.unload_s),
        }

    def __repr__(self) -> str:
        return f"Worker(running={len(self._running)}, done={dict(self.done)})"

    def start(self, job: Job) -> None:
        """Begin a job and return at once."""
        task = asyncio.get_running_loop().create_task(self._run(job), name=f"job {job.id}")
        self._running[job.id], self._jobs[job.id] = task, job
        task.add_done_callback(lambda _: self._forget(job.id))

    def hasten(self, command: Hasten) -> None:
        """Let a transfer that runs go before others."""
        if job := self._jobs.get(command.job):
            self._syncer.hasten(job.model, job.version, command.urgency)

    @property
    def at_engine(self) -> bool:
        """Whether a job uses the engine."""
        return any(job.task in AT_ENGINE for job in self._jobs.values())

    def staged(self, model: str, version: int) -> StagedVersion | None:
        """Return a version's package on this disk; None if it was not read yet."""
        return self._staged.get((model, version))

    def cancel(self, job: int) -> None:
        """Stop a job; no outcome comes back."""
        if task := self._running.pop(job, None):
            task.cancel()

    def _forget(self, job: int) -> None:
        self._running.pop(job, None)
        del self._jobs[job]

    async def stop(self) -> None:
        """Stop all jobs; what the engine has stays as it is."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        reason, engine_down = "", False
        way, deadline_s = self._ways[job.task]
        try:
            async with asyncio.timeout(deadline_s):
                await way(job)
        except EngineUnreachable as error:
            reason, engine_down = str(error) or "the engine does not answer", True
        except TimeoutError:
            reason = f"{job.task} took longer than {deadline_s or 0:g} seconds"
        except (BackendError, OSError) as error:
            reason = str(error) or type(error).__name__
        except FederationError as error:
            reason = error.sentence()
        except Exception as error:
            log.exception("job failed in an unexpected way: %s", job)
            reason = f"unexpected: {error!r}"
        self._tell(job, reason, engine_down=engine_down)

    def _tell(self, job: Job, reason: str, *, engine_down: bool) -> None:
        told = {"model": job.model, "version": job.version, "job": job.id, "task": job.task.value}
        if reason:
            self.failed[job.task] += 1
            log.warning("%s of %s@%d failed: %s", job.task, job.model, job.version, reason)
            self._emit(
                JobFailed(
                    job=job.id,
                    model=job.model,
                    version=job.version,
                    reason=reason,
                    engine_down=engine_down,
                )
            )
            return
        self.done[job.task] += 1
        log.info("%s of %s@%d done", job.task, job.model, job.version, extra=told)
        staged = self._staged.get(job.key)
        protocol = staged.package.protocol if staged else ModelProtocol.UNKNOWN
        self._emit(JobDone(job=job.id, model=job.model, version=job.version, protocol=protocol))

    # ------------------------------------------------------------ what each task does

    async def _stage(self, job: Job) -> None:
        directory = await self._syncer.stage(job.model, job.version, job.digest, job.urgency)
        text = await asyncio.to_thread(_read_package_file, directory)
        package = parse_package(text)
        if package.name != job.model:
            raise Invalid(f"the package of {job.model!r} calls itself {package.name!r}.")
        self._staged[job.key] = StagedVersion(
            model=job.model,
            version=job.version,
            digest=job.digest,
            directory=directory,
            package=package,
            replicas=job.replicas,
        )

    async def _verify(self, job: Job) -> None:
        await self._syncer.verify(job.model, job.version, job.digest)

    async def _load(self, job: Job) -> None:
        staged = replace(
            self._staged[job.key],
            replicas=job.replicas,
            max_replicas=job.max_replicas,
            needs=job.needs,
        )
        await self._backend.load(staged)
        await self._syncer.used(job.model, job.version, job.digest)

    async def _resize(self, job: Job) -> None:
        await self._load(job)
        await self._warm_up(job)

    async def _heal(self, job: Job) -> None:
        await self._backend.unload(job.model, job.version)
        await self._load(job)

    async def _warm_up(self, job: Job) -> None:
        await self._backend.warm_up(self._staged[job.key])

    async def _drain(self, job: Job) -> None:
        """Wait until nothing is in flight, for a limited time; then the rest is cut off."""
        clock = asyncio.get_running_loop().time
        started = clock()
        while (waited_s := clock() - started) < self._deadlines.drain_s:
            idle = self._in_flight(job.model, job.version) == 0
            if idle and waited_s >= self._deadlines.drain_least_s:
                return
            await asyncio.sleep(0.05)

    async def _unload(self, job: Job) -> None:
        await self._backend.unload(job.model, job.version)
        if job.digest:
            await self._syncer.used(job.model, job.version, job.digest)


def _read_package_file(directory: Path) -> str:
    path = directory / PACKAGE_FILE
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        raise Invalid(f"the package has no readable {PACKAGE_FILE}.") from None
