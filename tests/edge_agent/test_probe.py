"""Inferences that are kept in flight at an engine, and what they tell."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.backends.base import BackendError, EngineRoute, LoadedVersion, StagedVersion, Verb
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.probe import make_probe
from federation.contract.package import ModelPackage, TensorSpec
from federation.contract.types import ModelProtocol, Runtime

X = TensorSpec(name="x", datatype="FP32", shape=(-1, 2))


def staged_of(
    protocol: ModelProtocol = ModelProtocol.TENSOR, *, inputs: tuple[TensorSpec, ...] = (X,)
) -> StagedVersion:
    package = ModelPackage(
        name="m",
        runtime=Runtime.PYTHON,
        protocol=protocol,
        inputs=inputs,
        warmup={"prompt": "one two three"} if protocol is ModelProtocol.TEXT else {"x": [1, 2]},
    )
    return StagedVersion(
        model="m", version=1, digest="d", directory=Path("/nowhere"), package=package
    )


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    engine.infer_s = 0.01
    await engine.start()
    await engine.load(LoadedVersion(model="m", version=1, digest="d"))
    yield engine
    await engine.stop()


@pytest.fixture
async def backend(engine: FakeEngine) -> AsyncIterator[FakeBackend]:
    backend = FakeBackend(engine)
    yield backend
    await backend.close()


@pytest.mark.parametrize("inputs", [(X,), ()])
async def test_tensors_are_counted_in_inferences(
    engine: FakeEngine, backend: FakeBackend, inputs: tuple[TensorSpec, ...]
) -> None:
    probe = await make_probe(backend, staged_of(inputs=inputs))
    before = engine.requests["m--v1"]
    step = await probe.step(3, 0.05)
    await probe.close()
    assert probe.unit == "inferences"
    assert step.units == engine.requests["m--v1"] - before
    assert step.units >= step.concurrency == 3
    assert step.latency_ms >= 10
    assert step.seconds >= 0.05
    assert "inferences" in repr(probe)


async def test_text_is_counted_in_tokens(engine: FakeEngine, backend: FakeBackend) -> None:
    probe = await make_probe(backend, staged_of(ModelProtocol.TEXT))
    step = await probe.step(2, 0.05)
    await probe.close()
    assert probe.unit == "tokens"
    assert step.units == 3 * engine.requests["m--v1"]
    # Three tokens, one after the other: the latency is that of the first.
    assert step.latency_ms < 1000 * step.seconds


async def test_an_engine_that_fails_is_told(engine: FakeEngine, backend: FakeBackend) -> None:
    engine.crashed.add(("m", 1))
    probe = await make_probe(backend, staged_of())
    with pytest.raises(BackendError, match="not healthy"):
        await probe.step(4, 0.05)
    await probe.close()


class Mute(FakeBackend):
    def route(
        self, model: str, version: int, verb: Verb, protocol: ModelProtocol
    ) -> EngineRoute | None:
        return None


async def test_who_cannot_be_asked_is_told(engine: FakeEngine) -> None:
    with pytest.raises(BackendError, match="the engine has no infer"):
        await make_probe(Mute(engine), staged_of())


async def test_a_bad_sample_is_told(backend: FakeBackend) -> None:
    staged = staged_of()
    bad = dataclasses.replace(staged.package, warmup={"x": ["words"]})
    with pytest.raises(BackendError, match="warm-up sample"):
        await make_probe(backend, dataclasses.replace(staged, package=bad))
