"""Every job has exactly one outcome, or none if it was cancelled."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.backends.base import StagedVersion
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.policy.events import Job, JobDone, JobFailed, Task
from edge_agent.worker import Deadlines, Worker
from federation.contract.capacity import Resources
from federation.contract.types import ModelProtocol
from tests.edge_agent.package_server import PackageServer, sync_side

QUICK = Deadlines(load_s=0.3, warm_up_s=0.3, drain_s=1.5, drain_least_s=0.1)


class Odd(FakeBackend):
    """A backend with a bug."""

    async def load(self, staged: StagedVersion) -> None:
        raise ZeroDivisionError("a bug")


class Bench:
    """A worker with what it needs; `flights` is what the gateway would count."""

    def __init__(self, engine: FakeEngine, server: PackageServer, folder: Path) -> None:
        self.engine, self.server, self.folder = engine, server, folder
        self.flights = 0
        self.outcomes: asyncio.Queue[JobDone | JobFailed] = asyncio.Queue()
        self.sync = sync_side(server, folder / "state")
        self.backend = FakeBackend(engine)
        self.worker = self.make(self.backend)
        self.digest = server.add(folder, "m", 1, {"model.py": b""})

    def make(self, backend: FakeBackend, deadlines: Deadlines = QUICK) -> Worker:
        return Worker(
            backend=backend,
            syncer=self.sync.syncer,
            in_flight=lambda _model, _version: self.flights,
            emit=self.outcomes.put_nowait,
            deadlines=deadlines,
        )

    async def do(self, task: Task, *, worker: Worker | None = None) -> JobDone | JobFailed:
        job = Job(id=7, task=task, model="m", version=1, digest=self.digest, replicas=2)
        (worker or self.worker).start(job)
        async with asyncio.timeout(10):
            return await self.outcomes.get()

    async def reason(self, task: Task, *, worker: Worker | None = None) -> str:
        outcome = await self.do(task, worker=worker)
        assert isinstance(outcome, JobFailed)
        return outcome.reason


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    engine, server = FakeEngine(), PackageServer()
    await engine.start()
    await server.start()
    bench = Bench(engine, server, tmp_path)
    yield bench
    await bench.worker.stop()
    await bench.sync.syncer.close()
    await bench.backend.close()
    await server.stop()
    await engine.stop()


async def test_each_task_is_performed(bench: Bench) -> None:
    for task in (Task.STAGE, Task.VERIFY, Task.LOAD, Task.WARM_UP, Task.HEAL, Task.UNLOAD):
        outcome = await bench.do(task)
        assert outcome == JobDone(job=7, model="m", version=1, protocol=ModelProtocol.TENSOR)
    assert (bench.engine.loads["m", 1], bench.engine.unloads["m", 1]) == (2, 2)
    assert bench.worker.done[Task.LOAD] == 1
    assert "running=0" in repr(bench.worker)


async def test_the_number_of_replicas_comes_with_the_job(bench: Bench) -> None:
    await bench.do(Task.STAGE)
    await bench.do(Task.LOAD)
    assert bench.engine.models["m", 1].replicas == 2


async def test_the_room_that_replicas_were_given_comes_with_the_job(bench: Bench) -> None:
    seen: list[StagedVersion] = []

    class Notes(FakeBackend):
        async def load(self, staged: StagedVersion) -> None:
            seen.append(staged)

    worker = bench.make(Notes(bench.engine))
    for task, needs in ((Task.STAGE, Resources()), (Task.LOAD, Resources(gpus=2))):
        job = Job(id=7, task=task, model="m", version=1, digest=bench.digest, needs=needs)
        worker.start(job)
        async with asyncio.timeout(10):
            await bench.outcomes.get()
    assert [staged.resources for staged in seen] == [Resources(gpus=2)]
    assert seen[0].package.resources == Resources()


async def test_a_change_of_replicas_ends_with_a_real_inference(bench: Bench) -> None:
    await bench.do(Task.STAGE)
    await bench.do(Task.LOAD)
    assert isinstance(await bench.do(Task.RESIZE), JobDone)
    assert bench.engine.loads["m", 1] == 2
    bench.engine.hang()
    assert await bench.reason(Task.RESIZE) == "resize took longer than 0.6 seconds"
    bench.engine.resume()


async def test_an_engine_that_is_away_is_told_apart(bench: Bench) -> None:
    await bench.do(Task.STAGE)
    await bench.engine.stop()
    outcome = await bench.do(Task.LOAD)
    assert isinstance(outcome, JobFailed)
    assert outcome.engine_down
    assert bench.worker.failed[Task.LOAD] == 1


async def test_an_engine_that_refuses_is_quoted(bench: Bench) -> None:
    await bench.do(Task.STAGE)
    bench.engine.fail_load["m", 1] = "no room on the GPU"
    outcome = await bench.do(Task.LOAD)
    assert outcome == JobFailed(job=7, model="m", version=1, reason="no room on the GPU")


async def test_every_engine_call_has_a_deadline(bench: Bench) -> None:
    await bench.do(Task.STAGE)
    await bench.do(Task.LOAD)
    bench.engine.hang()
    assert await bench.reason(Task.WARM_UP) == "warm-up took longer than 0.3 seconds"
    assert await bench.reason(Task.LOAD) == "load took longer than 0.3 seconds"
    bench.engine.resume()


async def test_a_bug_is_the_jobs_failure_and_is_logged(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    worker = bench.make(Odd(bench.engine))
    await bench.do(Task.STAGE, worker=worker)
    assert "ZeroDivisionError" in await bench.reason(Task.LOAD, worker=worker)
    assert "Traceback" in caplog.text
    assert isinstance(await bench.do(Task.VERIFY, worker=worker), JobDone)


async def test_bad_packages_are_told(bench: Bench) -> None:
    digest = bench.server.add(bench.folder, "m", 2, {"model.yaml": b"name: other\nruntime: onnx\n"})
    for version, files, words in (
        (2, {}, "needed"),
        (3, {"model.yaml": b"name: x\nruntime: triton\n"}, "calls itself 'x'"),
        (4, {"model.yaml": b"\xff"}, "no readable model.yaml"),
    ):
        if files:
            digest = bench.server.add(bench.folder, "m", version, files)
        job = Job(id=version, task=Task.STAGE, model="m", version=version, digest=digest)
        bench.worker.start(job)
        outcome = await bench.outcomes.get()
        assert isinstance(outcome, JobFailed)
        assert words in outcome.reason


async def test_a_drain_waits_for_the_last_request_but_not_for_ever(bench: Bench) -> None:
    clock = asyncio.get_running_loop().time
    started = clock()
    await bench.do(Task.DRAIN)
    assert 0.1 <= clock() - started < 1.4
    bench.flights = 1
    started = clock()
    assert isinstance(await bench.do(Task.DRAIN), JobDone)
    assert clock() - started >= 1.5


async def test_a_cancelled_job_has_no_outcome(bench: Bench) -> None:
    bench.flights = 1
    worker = bench.make(bench.backend, replace(QUICK, drain_s=0.3))
    worker.start(Job(id=9, task=Task.DRAIN, model="m", version=1))
    await asyncio.sleep(0.05)
    worker.cancel(9)
    worker.cancel(9)  # once more does no harm
    await asyncio.sleep(0.4)
    assert bench.outcomes.empty()
