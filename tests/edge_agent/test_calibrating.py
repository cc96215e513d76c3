"""What an agent measures by itself, when, and that it remembers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent import calibrating
from edge_agent.backends.base import LoadedVersion, StagedVersion
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.board import Board
from edge_agent.calibrating import CalibrationFile, Calibrator, Uses, device_words
from edge_agent.policy.calibration import RampLimits
from federation.contract.capacity import Capacity, Device, Pool
from federation.contract.types import EngineStatus, ModelProtocol, ObservedVersion, VersionState
from federation.runtime.clock import ManualClock
from tests.edge_agent.agent_rig import until
from tests.edge_agent.test_probe import staged_of

QUICK = RampLimits(total_s=0.5, step_s=0.03, concurrency=8)


def seen(
    replicas: int = 1, state: VersionState = VersionState.WARMED, digest: str = "d"
) -> ObservedVersion:
    return ObservedVersion(model="m", version=1, digest=digest, state=state, replicas=replicas)


class Bench:
    """A calibrator over a fake engine; `run` starts it."""

    def __init__(self, engine: FakeEngine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.backend = FakeBackend(engine)
        self.board = Board(self.backend.kind)
        self.board.engine = EngineStatus(kind=self.backend.kind, version="1", ready=True)
        self.board.show_capacity(Capacity(), 0.0)
        self.board.show(1, (seen(),))
        self.clock = ManualClock()
        self.busy = False
        self.staged: StagedVersion | None = staged_of()
        self.news = 0
        self.limits = QUICK
        self._task: asyncio.Task[None] | None = None
        self.calibrator = self.make()

    def make(self, limits: RampLimits = QUICK) -> Calibrator:
        made = Calibrator(
            backend=self.backend,
            board=self.board,
            uses=Uses(busy=lambda: self.busy, staged=lambda _model, _version: self.staged),
            file=CalibrationFile(self.folder),
            clock=self.clock,
            limits=limits,
        )
        made.on_news.append(self.hear)
        return made

    def hear(self) -> None:
        self.news += 1

    async def run(self, calibrator: Calibrator | None = None) -> None:
        await self.stop()
        self.calibrator = calibrator or self.calibrator
        self._task = asyncio.get_running_loop().create_task(self.calibrator.run())

    async def stop(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def requests(self) -> int:
        return self.engine.requests["m--v1"]

    async def looks(self, count: int = 6) -> None:
        """Let it look a few times, which is how long nothing must happen."""
        await asyncio.sleep(calibrating.LOOK_S * count)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(calibrating, "LOOK_S", 0.01)
    engine = FakeEngine()
    engine.infer_s = 0.01
    await engine.start()
    await engine.load(LoadedVersion(model="m", version=1, digest="d"))
    bench = Bench(engine, tmp_path)
    yield bench
    await bench.stop()
    await bench.backend.close()
    await engine.stop()


async def test_a_warm_version_is_measured_once_and_remembered(bench: Bench) -> None:
    assert bench.calibrator.calibration(seen()) is None
    await bench.run()
    await until(lambda: bench.news)
    found = bench.calibrator.calibration(seen())
    assert found is not None
    assert found.unit == "inferences"
    assert 0 < found.per_second <= 1000 * found.concurrency / 10
    assert found.latency_ms >= 10
    (shown,) = bench.board.observed(
        lambda _m, _v: 0, measured=bench.calibrator.calibration
    ).versions
    assert shown.calibration == found
    requests = bench.requests
    await bench.looks()
    again = bench.make()
    assert again.calibration(seen()) == found
    await bench.run(again)
    await bench.looks()
    assert (bench.requests, again.measured) == (requests, 0)
    assert "1 known" in repr(again)


async def test_text_is_measured_in_tokens(bench: Bench) -> None:
    bench.staged = staged_of(ModelProtocol.TEXT)
    await bench.run()
    await until(lambda: bench.news)
    found = bench.calibrator.calibration(seen())
    assert found is not None
    assert found.unit == "tokens"


async def test_another_number_of_replicas_is_told_in_proportion_until_it_is_measured(
    bench: Bench,
) -> None:
    await bench.run()
    await until(lambda: bench.news)
    one = bench.calibrator.calibration(seen())
    two = bench.calibrator.calibration(seen(2))
    assert one is not None
    assert two is not None
    assert two.per_second == pytest.approx(2 * one.per_second)
    assert bench.calibrator.calibration(seen(digest="e")) is None
    assert bench.calibrator.calibration(seen(state=VersionState.LOADED)) is None
    bench.board.show(1, (seen(2),))
    await until(lambda: bench.news == 2)
    assert bench.calibrator.measured == 2


async def test_other_devices_are_measured_anew(bench: Bench) -> None:
    await bench.run()
    await until(lambda: bench.news)
    device = Device(id="0", vendor="nvidia", product="L4", memory_mib=1)
    bench.board.show_capacity(Capacity(devices=(device,)), 0.0)
    await until(lambda: bench.news == 2)


async def test_traffic_goes_first(bench: Bench) -> None:
    bench.busy = True
    bench.engine.infer_s = 0.3
    await bench.run(bench.make(RampLimits(total_s=60.0, step_s=0.03, concurrency=8)))
    await bench.looks()
    assert bench.requests == 0
    bench.busy = False
    await until(lambda: bench.requests)
    bench.busy = True
    await until(lambda: bench.calibrator.interrupted)
    bench.engine.infer_s = 0.01
    bench.busy = False
    await bench.looks()
    assert bench.calibrator.measured == 0  # it waits a while before it tries again
    bench.clock.advance(3)
    await until(lambda: bench.news)


async def test_a_failure_is_tried_again_more_and_more_rarely(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, calibrating.__name__)
    bench.engine.crashed.add(("m", 1))
    await bench.run()
    await until(lambda: "again in 2 s" in caplog.text)
    bench.clock.advance(2)
    await until(lambda: "again in 4 s" in caplog.text)
    requests = bench.requests
    bench.clock.advance(2)
    await bench.looks()
    assert bench.requests == requests
    bench.engine.crashed.clear()
    bench.clock.advance(3)
    await until(lambda: bench.news)


async def test_errors_are_never_measured_and_what_was_known_stays(bench: Bench) -> None:
    await bench.run()
    await until(lambda: bench.news)
    one = bench.calibrator.calibration(seen())
    before = bench.requests
    bench.board.show(1, (seen(2),))
    await until(lambda: bench.requests > before + 4)
    bench.engine.crashed.add(("m", 1))  # in the midst of the ramp; its errors come at once
    await until(lambda: bench.calibrator._tries)
    failed = bench.requests
    assert (bench.calibrator.measured, bench.news) == (1, 1)
    assert bench.calibrator.calibration(seen()) == one
    two = bench.calibrator.calibration(seen(2))
    assert one is not None
    assert two is not None
    assert two.latency_ms == one.latency_ms
    bench.engine.crashed.clear()
    bench.clock.advance(2.0)
    await until(lambda: bench.news == 2)
    assert bench.requests > failed
    found = bench.calibrator.calibration(seen(2))
    assert found is not None
    assert found.latency_ms >= 10


async def test_nothing_is_measured_that_cannot_or_shall_not_be(bench: Bench) -> None:
    await bench.run(bench.make(RampLimits(total_s=0.0)))
    await bench.looks()
    await bench.run(bench.make())
    bench.board.show(1, (seen(state=VersionState.LOADED),))
    await bench.looks()
    bench.board.show(1, (seen(),))
    bench.staged = None  # adopted, and its package not read yet
    await bench.looks()
    assert bench.requests == 0
    bench.staged = staged_of()
    await until(lambda: bench.news)


async def test_nothing_is_measured_before_the_devices_are_known(bench: Bench) -> None:
    bench.board.knows_devices = False
    await bench.run()
    await bench.looks()
    assert bench.requests == 0


def test_a_file_that_cannot_be_used_costs_only_a_measurement(tmp_path: Path) -> None:
    file = CalibrationFile(tmp_path)
    assert file.read() == []
    (tmp_path / "calibrations.json").write_text("{")
    assert file.read() == []
    (tmp_path / "file").write_text("")
    CalibrationFile(tmp_path / "file").keep([])
    assert "calibrations.json" in repr(file)


def test_devices_in_words() -> None:
    assert device_words(Capacity()) == "cpu"
    pool = Pool(node="n", resource="gpu", vendor="nvidia", product="A100", profile="1g.5gb")
    device = Device(id="0", vendor="nvidia", product="L4", memory_mib=1)
    words = "nvidia A100 1g.5gb, nvidia L4"
    assert device_words(Capacity(devices=(device, device), pools=(pool,))) == words
