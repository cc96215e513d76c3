"""What every engine must do, whatever it is: one suite over all of tests/contract/backends.py."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from edge_agent.backends.base import (
    Backend,
    BackendError,
    EngineUnreachable,
    StagedVersion,
    Verb,
)
from federation.contract.types import ModelProtocol
from tests.contract.backends import RIGS, Rig

TENSOR = ModelProtocol.TENSOR
Listing = set[tuple[str, int]]


@pytest.fixture(params=[pytest.param(name, marks=RIGS[name].marks) for name in RIGS])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    entry = RIGS[request.param]
    rig = entry.make(*([request.getfixturevalue(entry.fixture)] if entry.fixture else []))
    (tmp_path / "engine").mkdir()
    await rig.start(tmp_path / "engine")
    try:
        yield rig
    finally:
        await rig.stop()


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    return tmp_path / "packages"


async def listing(backend: Backend) -> Listing:
    return {(v.model, v.version) for v in await backend.loaded()}


async def infer(backend: Backend, staged: StagedVersion) -> tuple[int, list[float]]:
    """Ask the engine where the backend says, as the gateway would; 503 if nobody is there."""
    route = backend.route(staged.model, staged.version, Verb.INFER, TENSOR)
    assert route is not None
    tensor = {"name": "X", "datatype": "FP32", "shape": [3], "data": [1.0, 2.0, 4.5]}
    try:
        async with (
            aiohttp.ClientSession(headers=route.headers) as session,
            session.post(route.url, json={"inputs": [tensor]}) as response,
        ):
            if response.status != 200:
                return response.status, []
            document = await response.json(content_type=None)
            (output,) = document["outputs"]
            return response.status, output["data"]
    except aiohttp.ClientConnectionError:
        return 503, []


async def test_a_new_engine_is_ready_and_has_nothing_of_ours(rig: Rig) -> None:
    status = await rig.backend.status()
    assert (status.ready, status.kind) == (True, rig.backend.kind)
    assert status.version
    assert await rig.backend.loaded() == ()


async def test_load_warm_up_infer_unload(rig: Rig, packages: Path) -> None:
    staged = rig.good(packages, "echo", 1)
    await rig.backend.load(staged)
    (loaded,) = await rig.backend.loaded()
    assert (loaded.model, loaded.version, loaded.protocol) == ("echo", 1, TENSOR)
    assert loaded.digest in ("", staged.digest)
    await rig.backend.warm_up(staged)
    assert await infer(rig.backend, staged) == (200, [1.0, 2.0, 4.5])
    await rig.backend.unload("echo", 1)
    assert await listing(rig.backend) == set()
    await rig.backend.unload("echo", 1)  # once more does no harm
    assert (await infer(rig.backend, staged))[0] >= 400


async def test_versions_live_and_die_apart(rig: Rig, packages: Path) -> None:
    one, two = rig.good(packages, "echo", 1), rig.good(packages, "echo", 2)
    await rig.backend.load(one)
    await rig.backend.load(two)
    await rig.backend.load(two)  # once more does no harm
    assert await listing(rig.backend) == {("echo", 1), ("echo", 2)}
    await rig.backend.unload("echo", 1)
    assert await listing(rig.backend) == {("echo", 2)}
    assert (await infer(rig.backend, two))[0] == 200


async def test_a_broken_package_is_refused_in_words_and_harms_no_other(
    rig: Rig, packages: Path
) -> None:
    good = rig.good(packages, "echo", 1)
    await rig.backend.load(good)
    broken = rig.bad(packages, "broken", 1)
    with pytest.raises(BackendError, match="on purpose"):
        await rig.backend.load(broken)
    assert await listing(rig.backend) == {("echo", 1)}
    assert (await infer(rig.backend, good))[0] == 200


async def test_what_is_not_loaded_does_not_warm_up(rig: Rig, packages: Path) -> None:
    with pytest.raises(BackendError):
        await rig.backend.warm_up(rig.good(packages, "echo", 1))


async def test_an_engine_that_died_is_told_as_such_and_comes_back(rig: Rig, packages: Path) -> None:
    staged = rig.good(packages, "echo", 1)
    await rig.backend.load(staged)
    before = await rig.backend.identity()
    await rig.kill_engine()
    status = await rig.backend.status()
    assert not status.ready
    assert status.reason
    with pytest.raises(EngineUnreachable):
        await rig.backend.loaded()
    with pytest.raises(EngineUnreachable):
        await rig.backend.load(staged)
    with pytest.raises(EngineUnreachable):
        await rig.backend.warm_up(staged)
    await rig.restart_engine()
    assert (await rig.backend.status()).ready
    assert await listing(rig.backend) == (set() if rig.forgets else {("echo", 1)})
    after = await rig.backend.identity()
    assert (before != after) if rig.tells_restarts else (before == after == "")
    await rig.backend.load(staged)
    assert (await infer(rig.backend, staged))[0] == 200


async def test_tensor_models_have_no_text_verbs(rig: Rig) -> None:
    for verb in Verb:
        route = rig.backend.route("echo", 1, verb, TENSOR)
        assert (route is None) == (verb not in (Verb.METADATA, Verb.READY, Verb.INFER)), verb
