import asyncio
import dataclasses
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge_agent.backends.base import BackendError, EngineUnreachable, Verb
from edge_agent.backends.ray_serve import RayServeBackend, write_archive
from federation.contract.types import EngineKind, ModelProtocol
from tests.engines.loaded import LoadedModels, ray_backend
from tests.engines.packages import add_package, stage
from tests.engines.ray import GPUS, RayCluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


@pytest.fixture
async def backend(
    ray_cluster: RayCluster, ray_models: LoadedModels
) -> AsyncIterator[RayServeBackend]:
    """A backend over the session's cluster; what a test loads beside the shared models goes."""
    backend = ray_backend(ray_cluster)
    before = {(v.model, v.version) for v in await backend.loaded()}
    yield backend
    left = {(v.model, v.version) for v in await backend.loaded()} - before
    await asyncio.gather(*(backend.unload(*each) for each in left))
    await backend.close()


async def ask(backend: RayServeBackend, version: int, x: list[float]) -> Any:
    route = backend.route("add", version, Verb.INFER, ModelProtocol.TENSOR)
    assert route is not None
    body = {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": x},
            {"name": "words", "datatype": "BYTES", "shape": [1, 1], "data": ["hi"]},
        ]
    }
    async with aiohttp.ClientSession() as session, session.post(route.url, json=body) as answer:
        assert answer.status == 200
        return await answer.json()


async def test_the_cluster_tells_who_it_is_and_what_it_has(backend: RayServeBackend) -> None:
    status = await backend.status()
    assert (status.kind, status.ready) == (EngineKind.RAY_SERVE, True)
    assert status.version.count(".") == 2
    assert (await backend.identity()).startswith("session_")
    devices = await backend.devices()
    assert [(d.product, d.source) for d in devices] == [("GPU", "ray")] * GPUS
    assert len({d.id for d in devices}) == GPUS
    assert all(d.node for d in devices), "pools are of one node each"


async def test_loaded_versions_carry_what_we_noted(
    backend: RayServeBackend, ray_models: LoadedModels
) -> None:
    found = {(v.model, v.version): v for v in await backend.loaded()}
    for staged in ray_models.staged:
        version = found[staged.model, staged.version]
        assert version.digest == staged.digest
        assert version.protocol is staged.package.protocol
        await backend.load(staged)  # nothing to do
    assert (await ask(backend, 1, [1, 2]))["outputs"][0]["data"] == [2, 3]


async def test_loading_and_failing_leave_the_applications_of_others_alone(
    backend: RayServeBackend, ray_cluster: RayCluster, ray_models: LoadedModels, tmp_path: Path
) -> None:
    archive = tmp_path / "foreign.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("foreign.py", FOREIGN)
    details = ray_cluster.call("GET", "/api/serve/applications/")
    ours = [each["deployed_app_config"] for each in details["applications"].values()]
    foreign = {
        "name": "someone-else",
        "route_prefix": "/else",
        "import_path": "foreign:app",
        "runtime_env": {"working_dir": archive.as_uri()},
    }
    config = {"http_options": details["http_options"], "applications": [*ours, foreign]}
    ray_cluster.call("PUT", "/api/serve/applications/", config)

    good, broken = add_package(tmp_path, version=2), add_package(tmp_path, version=3, code=BROKEN)
    results = await asyncio.gather(backend.load(good), backend.load(broken), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], BackendError)
    assert "nothing_of_that_name" in str(results[1])
    assert "\n" not in str(results[1])
    versions = {(v.model, v.version) for v in await backend.loaded()}
    assert {("add", 1), ("add", 2)} <= versions
    assert ("add", 3) not in versions
    assert (await ask(backend, 1, [1, 2]))["outputs"][0]["data"] == [2, 3]
    assert (await ask(backend, 2, [1, 2]))["outputs"][0]["data"] == [3, 4]

    await backend.unload("add", 2)
    left = ray_cluster.call("GET", "/api/serve/applications/")["applications"]
    assert left["someone-else"]["status"] in ("RUNNING", "DEPLOYING")
    assert not {"add--v2", "add--v3"} & set(left)
    assert not list(ray_cluster.archives.glob("add--v[23]-*"))


async def test_replicas_change_while_it_serves_and_stay_if_that_fails(
    backend: RayServeBackend, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    staged = add_package(tmp_path, version=7)
    await backend.load(dataclasses.replace(staged, max_replicas=3))
    details = ray_cluster.call("GET", "/api/serve/applications/")
    (deployment,) = details["applications"]["add--v7"]["deployed_app_config"]["deployments"]
    limits = deployment["autoscaling_config"]
    assert (limits["min_replicas"], limits["max_replicas"]) == (1, 3)
    before = details["applications"]["add--v7"]["last_deployed_time_s"]
    await backend.load(dataclasses.replace(staged, max_replicas=3))  # nothing to do
    after = ray_cluster.call("GET", "/api/serve/applications/")["applications"]["add--v7"]
    assert after["last_deployed_time_s"] == before

    load = asyncio.ensure_future(backend.load(dataclasses.replace(staged, replicas=2)))
    while not load.done():
        assert (await ask(backend, 7, [1, 2]))["outputs"][0]["data"] == [8, 9]
        await asyncio.sleep(0.05)
    await load
    found = {v.version: v for v in await backend.loaded() if v.model == "add"}
    assert found[7].replicas == 2

    impatient = ray_backend(ray_cluster, load_timeout_s=3)
    needs = dataclasses.replace(staged.package.resources, gpus=GPUS + 1)
    package = dataclasses.replace(staged.package, resources=needs)
    with pytest.raises(BackendError, match="add--v7 does not run after 3 s"):
        await impatient.load(dataclasses.replace(staged, replicas=3, package=package))
    assert (await ask(backend, 7, [1, 2]))["outputs"][0]["data"] == [8, 9]
    now = ray_cluster.call("GET", "/api/serve/applications/")["applications"]["add--v7"]
    (deployment,) = now["deployed_app_config"]["deployments"]
    assert deployment["num_replicas"] == 2
    await impatient.close()


async def test_what_never_fits_ends_at_the_deadline(
    ray_cluster: RayCluster, ray_models: LoadedModels, tmp_path: Path
) -> None:
    backend, staged = ray_backend(ray_cluster, load_timeout_s=5), add_package(tmp_path, version=8)
    package = dataclasses.replace(
        staged.package, resources=dataclasses.replace(staged.package.resources, gpus=64)
    )
    with pytest.raises(BackendError, match="add--v8 does not run after 5 s"):
        await backend.load(dataclasses.replace(staged, package=package))
    await backend.unload("add", 8)
    await backend.close()


async def test_an_application_of_ray_s_own_kind(backend: RayServeBackend, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "foreign.py").write_text(FOREIGN)
    document: dict[str, object] = {
        "name": "own",
        "runtime": "ray-serve",
        "import_path": "foreign:app",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
    }
    staged = stage(folder, document, version=4)
    await backend.load(staged)
    await backend.warm_up(staged)
    found = {(v.model, v.version): v.digest for v in await backend.loaded()}
    assert found["own", 4] == staged.digest


async def test_a_wrong_token_and_a_closed_port_are_told(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    for url, complaint in (
        (ray_cluster.dashboard_url, "refuses the token"),
        ("http://127.0.0.1:9", "does not answer"),
    ):
        backend = RayServeBackend(url, ray_cluster.serve_url, tmp_path, token="wrong")
        status = await backend.status()
        assert not status.ready
        assert complaint in status.reason
        assert await backend.identity() == ""
        with pytest.raises(EngineUnreachable, match=complaint):
            await backend.loaded()
        await backend.close()


async def test_unloading_what_is_not_loaded_is_no_error(backend: RayServeBackend) -> None:
    await backend.unload("never", 7)


def test_the_archive_holds_app_and_package(tmp_path: Path) -> None:
    staged = add_package(tmp_path)
    archive = write_archive(tmp_path / "archives", staged)
    names = zipfile.ZipFile(archive).namelist()
    assert {"edge_agent/__init__.py", "edge_agent/serving/ray_app.py"} <= set(names)
    assert {"model/model.py", "model/package.json"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    assert staged.digest[:16] in archive.name
    assert list(archive.parent.iterdir()) == [archive]


def test_routes(tmp_path: Path) -> None:
    backend = RayServeBackend("http://d:1", "http://s:2/", tmp_path)
    urls = {
        verb: route.url
        for verb in Verb
        if (route := backend.route("m", 2, verb, ModelProtocol.TEXT)) is not None
    }
    base = "http://s:2/m--v2"
    assert urls == {
        Verb.METADATA: f"{base}/v2/models/m/versions/2",
        Verb.READY: f"{base}/v2/models/m/versions/2/ready",
        Verb.INFER: f"{base}/v2/models/m/versions/2/infer",
        Verb.GENERATE: f"{base}/v2/models/m/versions/2/generate",
        Verb.GENERATE_STREAM: f"{base}/v2/models/m/versions/2/generate_stream",
        Verb.COMPLETIONS: f"{base}/v1/completions",
        Verb.CHAT: f"{base}/v1/chat/completions",
    }
    assert backend.route("m", 2, Verb.CHAT, ModelProtocol.TENSOR) is None
    assert repr(backend) == "RayServeBackend(http://d:1, http://s:2)"


BROKEN = "import nothing_of_that_name"
FOREIGN = """
from ray import serve
from starlette.requests import Request

@serve.deployment
class Foreign:
    async def __call__(self, request: Request):
        return {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1]}]}

app = Foreign.bind()
"""
