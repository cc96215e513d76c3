import asyncio
import dataclasses
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge_agent.backends.base import (
    BackendError,
    Dialect,
    EngineUnreachable,
    StagedVersion,
    Verb,
)
from edge_agent.backends.triton import TritonBackend
from federation.contract.types import EngineKind, ModelProtocol, Runtime
from federation.demo.triton_install import TritonInstallation
from tests.engines.packages import add_package, count_package, stage
from tests.engines.triton import TritonServer

pytestmark = pytest.mark.triton


@pytest.fixture
async def backend(triton_server: TritonServer) -> AsyncIterator[TritonBackend]:
    """A backend over the session's server, which is empty before and after."""
    backend = TritonBackend(triton_server.url, triton_server.repository, load_timeout_s=30)
    await unload_all(backend)
    yield backend
    await unload_all(backend)
    await backend.close()


async def unload_all(backend: TritonBackend) -> None:
    left = await backend.loaded()
    await asyncio.gather(*(backend.unload(v.model, v.version) for v in left))


@pytest.fixture
def own_server(triton_installation: TritonInstallation, tmp_path: Path) -> Iterator[TritonServer]:
    """A server that a test may break."""
    server = TritonServer(triton_installation, tmp_path / "engine")
    server.start()
    yield server
    server.kill()


def tensors(x: list[float]) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": x},
            {"name": "words", "datatype": "BYTES", "shape": [1, 1], "data": ["hi"]},
        ]
    }


async def infer(backend: TritonBackend, version: int, x: list[float]) -> tuple[int, Any]:
    route = backend.route("add", version, Verb.INFER, ModelProtocol.TENSOR)
    assert route is not None
    async with (
        aiohttp.ClientSession() as session,
        session.post(route.url, json=tensors(x)) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


def summary(versions: Any) -> set[tuple[str, int]]:
    return {(v.model, v.version) for v in versions}


async def test_two_versions_live_side_by_side(backend: TritonBackend, tmp_path: Path) -> None:
    first, third = add_package(tmp_path), add_package(tmp_path, version=3)
    for staged in (first, third):
        await backend.load(staged)
        await backend.warm_up(staged)
    status, answer = await infer(backend, 3, [1, 2])
    assert (status, answer["model_version"], answer["outputs"][0]["data"]) == (200, "3", [4, 5])
    assert (await infer(backend, 1, [1, 2]))[1]["outputs"][0]["data"] == [2, 3]
    found = {v.version: v for v in await backend.loaded()}
    assert found[3].digest == third.digest
    assert found[3].protocol is ModelProtocol.TENSOR
    await backend.unload("add", 1)
    assert summary(await backend.loaded()) == {("add", 3)}
    assert (await infer(backend, 1, [1, 2]))[0] in (404, 503)


async def test_status_tells_version_and_reason(backend: TritonBackend, tmp_path: Path) -> None:
    status = await backend.status()
    assert (status.kind, status.version, status.ready) == (EngineKind.TRITON, "2.51.0", True)
    away = TritonBackend("http://127.0.0.1:9", tmp_path)
    status = await away.status()
    assert not status.ready
    assert "127.0.0.1:9 does not answer" in status.reason
    with pytest.raises(EngineUnreachable):
        await away.loaded()
    await away.close()


async def test_another_agent_adopts_what_is_loaded(
    backend: TritonBackend, triton_server: TritonServer, tmp_path: Path
) -> None:
    text = count_package(tmp_path)
    await backend.load(text)
    stubs = set(triton_server.stubs())
    restarted = TritonBackend(triton_server.url, triton_server.repository)
    (found,) = await restarted.loaded()
    assert (found.digest, found.protocol, found.replicas) == (text.digest, ModelProtocol.TEXT, 1)
    await restarted.load(text)  # nothing to do: the same process serves on
    assert set(triton_server.stubs()) == stubs
    await restarted.close()


async def test_other_content_under_the_same_name_is_really_loaded(
    backend: TritonBackend, tmp_path: Path
) -> None:
    await backend.load(add_package(tmp_path / "old"))
    changed = add_package(
        tmp_path / "new", code=(tmp_path / "old/add-1/model.py").read_text() + "\n"
    )
    (changed.directory / "model.py").write_text(
        (changed.directory / "model.py").read_text().replace(".upper()", ".lower()")
    )
    await backend.load(dataclasses.replace(changed, digest="other"))
    _, answer = await infer(backend, 1, [1, 2])
    assert answer["outputs"][1]["data"] == ["hi"]
    assert (await backend.loaded())[0].digest == "other"


async def test_more_replicas_come_without_a_gap(backend: TritonBackend, tmp_path: Path) -> None:
    one = add_package(tmp_path)
    await backend.load(one)
    load = asyncio.ensure_future(backend.load(dataclasses.replace(one, replicas=2)))
    while not load.done():
        assert (await infer(backend, 1, [1, 2]))[0] == 200
        await asyncio.sleep(0.02)
    await load
    (found,) = await backend.loaded()
    assert found.replicas == 2


async def test_a_change_of_replicas_that_fails_leaves_what_serves(
    backend: TritonBackend, tmp_path: Path
) -> None:
    one = add_package(tmp_path)
    await backend.load(one)
    (one.directory / "model.py").write_text("raise RuntimeError('no memory for another')")
    with pytest.raises(BackendError, match="no memory for another"):
        await backend.load(dataclasses.replace(one, replicas=2))
    assert (await infer(backend, 1, [1, 2]))[0] == 200
    (found,) = await backend.loaded()
    assert found.replicas == 1


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("x = 1", "model.py has no class Model"),
        ("class Model:\n  def __init__(self, d, p): raise ValueError('too old')", "too old"),
    ],
)
async def test_a_broken_package_is_one_line_and_disturbs_nobody(
    backend: TritonBackend, triton_server: TritonServer, tmp_path: Path, code: str, complaint: str
) -> None:
    await backend.load(add_package(tmp_path))
    with pytest.raises(BackendError, match=complaint) as caught:
        await backend.load(add_package(tmp_path, version=2, code=code))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert summary(await backend.loaded()) == {("add", 1)}
    assert (await infer(backend, 1, [1, 2]))[0] == 200
    assert [p.name for p in triton_server.repository.iterdir()] == ["add--v1"]


async def test_a_load_that_hangs_ends_at_the_deadline(
    own_server: TritonServer, tmp_path: Path
) -> None:
    backend = TritonBackend(own_server.url, own_server.repository, load_timeout_s=1)
    with pytest.raises(BackendError, match="did not load add--v1 within 1 s"):
        await backend.load(add_package(tmp_path, code="import time; time.sleep(600)"))
    assert (await backend.status()).ready
    await backend.close()


async def test_a_dead_stub_is_healed_by_unload_and_load(
    own_server: TritonServer, tmp_path: Path
) -> None:
    backend, staged = TritonBackend(own_server.url, own_server.repository), add_package(tmp_path)
    await backend.load(staged)
    for stub in own_server.stubs():
        os.kill(stub, signal.SIGKILL)
    with pytest.raises(BackendError, match="warm-up inference failed"):
        await backend.warm_up(staged)
    assert summary(await backend.loaded()) == {("add", 1)}  # so little is Triton's READY worth
    await backend.unload("add", 1)
    await backend.load(staged)
    await backend.warm_up(staged)
    await backend.close()


async def test_a_restarted_server_has_nothing_loaded(
    own_server: TritonServer, tmp_path: Path
) -> None:
    backend, staged = TritonBackend(own_server.url, own_server.repository), add_package(tmp_path)
    await backend.load(staged)
    own_server.kill()
    with pytest.raises(EngineUnreachable):
        await backend.loaded()
    own_server.start()
    assert await backend.loaded() == ()
    await backend.load(staged)
    await backend.warm_up(staged)
    await backend.close()


async def test_unloading_what_is_not_loaded_is_no_error(backend: TritonBackend) -> None:
    await backend.unload("never", 7)


async def test_a_triton_folder_is_taken_as_it_is(backend: TritonBackend, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    (folder / "4").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(
        'name: "called-otherwise"\nbackend: "python"\nmax_batch_size: 0\n'
        'input [ { name: "A" data_type: TYPE_INT32 dims: [ -1 ] } ]\n'
        'output [ { name: "B" data_type: TYPE_INT32 dims: [ -1 ] } ]\n'
    )
    (folder / "4" / "model.py").write_text(
        "import triton_python_backend_utils as pb\n"
        "class TritonPythonModel:\n"
        "    def execute(self, requests):\n"
        "        return [pb.InferenceResponse([pb.Tensor('B',"
        " pb.get_input_tensor_by_name(r, 'A').as_numpy() * 2)]) for r in requests]\n"
    )
    staged = stage(folder, {"name": "own", "runtime": "triton"}, version=9)
    assert staged.package.runtime is Runtime.TRITON
    await backend.load(staged)
    await backend.warm_up(staged)
    assert [(v.version, v.digest) for v in await backend.loaded()] == [(9, staged.digest)]


async def test_the_real_classifier_serves_both_versions(
    backend: TritonBackend, filetype_packages: dict[int, StagedVersion]
) -> None:
    for staged in filetype_packages.values():
        await backend.load(staged)
        await backend.warm_up(staged)


def test_routes(tmp_path: Path) -> None:
    backend = TritonBackend("http://h:1/", tmp_path)
    route = backend.route("m", 2, Verb.INFER, ModelProtocol.TENSOR)
    assert route is not None
    assert route.url == "http://h:1/v2/models/m--v2/versions/2/infer"
    assert (route.engine_model, route.dialect) == ("m--v2", Dialect.NATIVE)
    route = backend.route("m", 2, Verb.CHAT, ModelProtocol.TEXT)
    assert route is not None
    assert route.url == "http://h:1/v2/models/m--v2/versions/2/generate_stream"
    assert route.dialect is Dialect.TRITON_TEXT
    assert backend.route("m", 2, Verb.CHAT, ModelProtocol.TENSOR) is None
    metadata = backend.route("m", 2, Verb.METADATA, ModelProtocol.TEXT)
    assert metadata is not None
    assert metadata.url.endswith("/versions/2")
    assert json.dumps(repr(backend))


async def test_a_repository_that_cannot_be_written_is_told(
    triton_server: TritonServer, tmp_path: Path
) -> None:
    backend = TritonBackend(triton_server.url, tmp_path / "nowhere")
    with pytest.raises(BackendError, match="cannot write Triton's repository"):
        await backend.load(add_package(tmp_path, version=97))  # nobody has it loaded
    await backend.close()


def test_grpc_is_where_it_was_said_to_be(tmp_path: Path) -> None:
    assert TritonBackend("http://h:1", tmp_path).grpc_route("m", 2, ModelProtocol.TENSOR) is None
    backend = TritonBackend("http://h:1", tmp_path, grpc_address="h:2")
    route = backend.grpc_route("m", 2, ModelProtocol.TENSOR)
    assert route is not None
    assert (route.address, route.engine_model) == ("h:2", "m--v2")
