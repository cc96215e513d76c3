"""One package serves on every engine, and the answers are the same."""

import json
import sysconfig
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from edge_agent.backends.base import Backend, StagedVersion, Verb
from edge_agent.backends.triton import TritonBackend
from edge_agent.backends.warmup import sample_request
from edge_agent.serving.v2_terms import HEADER_LENGTH, Tensor
from federation.contract.types import ModelProtocol
from federation.demo.filetype import SPECS, filetype_features, label_of
from federation.demo.models import read_labels
from tests.engines.loaded import LoadedModels, ray_backend
from tests.engines.ray import RayCluster
from tests.engines.triton import TritonServer

pytestmark = [pytest.mark.triton, pytest.mark.ray, pytest.mark.timeout(180)]

FILES = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-e]*.py"))[:24]


async def ask(backend: Backend, version: int, row: list[int]) -> bytes:
    """Return the scores of one file as the engine's own bytes."""
    route = backend.route("filetype", version, Verb.INFER, ModelProtocol.TENSOR)
    assert route is not None
    spec = SPECS[version]
    tensor = Tensor(name="bytes", datatype=spec.datatype, shape=(-1, spec.length))
    body = sample_request([tensor], {"bytes": row})
    async with (
        aiohttp.ClientSession() as session,
        session.post(route.url, data=body.data, headers=dict(body.headers)) as answer,
    ):
        content = await answer.read()
        head = json.loads(content[: int(answer.headers[HEADER_LENGTH])])
        assert answer.status == 200
        assert head["model_version"] == str(version)
        return content[int(answer.headers[HEADER_LENGTH]) :]


@pytest.mark.parametrize("version", [1, 2])
async def test_labels_of_real_files_are_equal_bit_by_bit(
    triton_server: TritonServer,
    ray_cluster: RayCluster,
    triton_models: LoadedModels,
    ray_models: LoadedModels,
    filetype_packages: dict[int, StagedVersion],
    version: int,
) -> None:
    backends: list[Any] = [
        TritonBackend(triton_server.url, triton_server.repository),
        ray_backend(ray_cluster),
    ]
    labels = read_labels(filetype_packages[version].directory)
    seen = []
    for path in FILES:
        row = filetype_features(path.read_bytes(), SPECS[version])
        on_triton, on_ray = [await ask(backend, version, row) for backend in backends]
        assert on_triton == on_ray
        seen.append(label_of(np.frombuffer(on_triton, "<f4").tolist(), labels))
    assert seen.count("python") > len(FILES) * 0.8
    for backend in backends:
        await backend.close()
