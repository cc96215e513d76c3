"""The same four packages on the session's Triton and on its Ray cluster, loaded once.

A pytest plugin. Loading takes seconds on Ray, so tests that only ask models share them; tests that
load and unload use names or versions of their own.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.backends.base import Backend, StagedVersion
from edge_agent.backends.ray_serve import RayServeBackend
from edge_agent.backends.triton import TritonBackend
from tests.engines.packages import add_package, count_package, notes_of
from tests.engines.ray import RayCluster
from tests.engines.triton import TritonServer

PAUSE_S = 0.05  # between two tokens of the text model


@dataclass(frozen=True)
class LoadedModels:
    """What is loaded: add 1, count 1, filetype 1 and 2. `notes` is where count notes its tokens."""

    staged: tuple[StagedVersion, ...]
    notes: Path


def ray_backend(cluster: RayCluster, *, load_timeout_s: float = 150.0) -> RayServeBackend:
    """Return a backend of a test cluster."""
    return RayServeBackend(
        cluster.dashboard_url,
        cluster.serve_url,
        cluster.archives,
        token=cluster.token,
        load_timeout_s=load_timeout_s,
    )


@pytest.fixture(scope="session")
def _ray_packages(
    filetype_packages: dict[int, StagedVersion], tmp_path_factory: pytest.TempPathFactory
) -> LoadedModels:
    return _packages(tmp_path_factory.mktemp("ray-models"), filetype_packages)


@pytest.fixture(scope="session")
def _triton_packages(
    filetype_packages: dict[int, StagedVersion], tmp_path_factory: pytest.TempPathFactory
) -> LoadedModels:
    return _packages(tmp_path_factory.mktemp("triton-models"), filetype_packages)


@pytest.fixture
async def ray_models(ray_cluster: RayCluster, _ray_packages: LoadedModels) -> LoadedModels:
    """The packages on Ray; loaded again if a test emptied the cluster."""
    await _load(ray_backend(ray_cluster), _ray_packages.staged)
    return _ray_packages


@pytest.fixture
async def triton_models(
    triton_server: TritonServer, _triton_packages: LoadedModels
) -> LoadedModels:
    """The packages on Triton; loaded again if a test emptied it."""
    backend = TritonBackend(triton_server.url, triton_server.repository)
    await _load(backend, _triton_packages.staged)
    return _triton_packages


def _packages(folder: Path, filetype: dict[int, StagedVersion]) -> LoadedModels:
    staged = (add_package(folder), count_package(folder, pause_s=PAUSE_S), *filetype.values())
    return LoadedModels(staged=staged, notes=notes_of(folder))


async def _load(backend: Backend, staged: tuple[StagedVersion, ...]) -> None:
    try:
        before = {(v.model, v.version, v.digest) for v in await backend.loaded()}
        missing = [s for s in staged if (s.model, s.version, s.digest) not in before]
        await asyncio.gather(*(backend.load(each) for each in missing))
        for each in missing:
            await backend.warm_up(each)
    finally:
        await backend.close()
