"""The engines over which the backend contract runs.

Each is a Rig: a running engine, its backend, and how to hurt it. To add one, write a class with the
methods of Rig and put it into RIGS, with the marks that its tests need.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from blake3 import blake3

from edge_agent.backends.base import Backend, StagedVersion
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.backends.triton import TritonBackend
from federation.contract.package import ModelPackage, parse_package
from federation.demo.triton_install import TritonInstallation
from tests.contract.kube_backends import KubeBench, ray_bench, triton_bench
from tests.engines.loaded import ray_backend
from tests.engines.ray import RayCluster
from tests.engines.triton import TritonServer

PACKAGE = """\
name: {model}
runtime: python
inputs: [{{name: X, datatype: FP32, shape: [-1]}}]
outputs: [{{name: X, datatype: FP32, shape: [-1]}}]
warmup: {{X: [1.0, 2.0]}}
"""


ECHO = """\
class Model:
    def __init__(self, directory, parameters): pass
    def infer(self, inputs): return inputs
"""


class Rig(ABC):
    """One engine under test. `backend` is there after start()."""

    backend: Backend
    tells_restarts: ClassVar[bool] = True  # whether identity() changes when the engine restarts
    forgets: ClassVar[bool] = True  # whether nothing is loaded after its restart

    @abstractmethod
    async def start(self, folder: Path) -> None:
        """Start the engine with nothing loaded; `folder` is empty and this rig's own."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop engine and backend for good."""

    @abstractmethod
    async def kill_engine(self) -> None:
        """End the engine as a crash would; the backend stays."""

    @abstractmethod
    async def restart_engine(self) -> None:
        """Start the engine again, after kill_engine, where the backend expects it."""

    @abstractmethod
    def good(self, folder: Path, model: str, version: int) -> StagedVersion:
        """Write a package that gives its input X (FP32, any length) back as output X."""

    @abstractmethod
    def bad(self, folder: Path, model: str, version: int) -> StagedVersion:
        """Write a package that cannot be loaded."""


def stage(
    folder: Path, model: str, version: int, files: dict[str, str], text: str = PACKAGE
) -> StagedVersion:
    """Write the files of a package and return it as the worker would; a help for rigs."""
    directory = folder / f"{model}-{version}"
    directory.mkdir(parents=True, exist_ok=True)
    text = text.format(model=model)
    for name, content in {**files, "model.yaml": text}.items():
        (directory / name).write_text(content, encoding="utf-8")
    package: ModelPackage = parse_package(text)
    content = repr(sorted(files.items())) + text
    return StagedVersion(
        model=model,
        version=version,
        digest=blake3(f"{model}@{version}:{content}".encode()).hexdigest(),
        directory=directory,
        package=package,
    )


class FakeRig(Rig):
    """The in-memory engine."""

    def __init__(self) -> None:
        self.engine = FakeEngine()

    async def start(self, folder: Path) -> None:
        await self.engine.start()
        self.backend = FakeBackend(self.engine)

    async def stop(self) -> None:
        await self.backend.close()
        await self.engine.stop()

    async def kill_engine(self) -> None:
        await self.engine.stop()

    async def restart_engine(self) -> None:
        await self.engine.start()

    def good(self, folder: Path, model: str, version: int) -> StagedVersion:
        return stage(folder, model, version, {"model.py": ""})

    def bad(self, folder: Path, model: str, version: int) -> StagedVersion:
        self.engine.fail_load[model, version] = "broken on purpose"
        return stage(folder, model, version, {"model.py": "raise RuntimeError('on purpose')"})


class PythonRig(Rig):
    """An engine that serves real packages."""

    def good(self, folder: Path, model: str, version: int) -> StagedVersion:
        return stage(folder, model, version, {"model.py": ECHO})

    def bad(self, folder: Path, model: str, version: int) -> StagedVersion:
        return stage(folder, model, version, {"model.py": "raise RuntimeError('on purpose')"})


class TritonRig(PythonRig):
    """A Triton of its own: one starts in a fraction of a second."""

    tells_restarts = False

    def __init__(self, installation: TritonInstallation) -> None:
        self._installation = installation

    async def start(self, folder: Path) -> None:
        self._server = TritonServer(self._installation, folder)
        self._server.start()
        self.backend = TritonBackend(self._server.url, self._server.repository)

    async def stop(self) -> None:
        await self.backend.close()
        self._server.kill()

    async def kill_engine(self) -> None:
        self._server.kill()

    async def restart_engine(self) -> None:
        self._server.start()


class RayRig(PythonRig):
    """The session's Ray cluster, emptied first: a second cluster would cost too much."""

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster = cluster

    async def start(self, folder: Path) -> None:
        self.backend = ray_backend(self._cluster)
        await self._empty()

    async def stop(self) -> None:
        await self._empty()
        await self.backend.close()

    async def kill_engine(self) -> None:
        self._cluster.kill()

    async def restart_engine(self) -> None:
        await asyncio.to_thread(self._cluster.start)

    async def _empty(self) -> None:
        left = await self.backend.loaded()
        await asyncio.gather(*(self.backend.unload(v.model, v.version) for v in left))


class KubeRig(PythonRig):
    """A Kubernetes cluster: what it was asked for it runs again after a power failure."""

    tells_restarts = False
    forgets = False

    def __init__(self, bench: KubeBench) -> None:
        self._bench = bench

    async def start(self, folder: Path) -> None:
        await self._bench.start(folder)
        self.backend = self._bench.backend()

    async def stop(self) -> None:
        await self._bench.stop()

    async def kill_engine(self) -> None:
        await self._bench.api.stop()
        await self._bench.nodes.stop()

    async def restart_engine(self) -> None:
        await self._bench.nodes.restart()
        await self._bench.api.start()


@dataclass(frozen=True)
class Entry:
    """How the contract starts one kind of engine; `fixture` is what `make` is called with."""

    make: Callable[..., Rig]
    marks: tuple[pytest.MarkDecorator, ...] = field(default=())
    fixture: str = ""


RIGS: dict[str, Entry] = {
    "fake": Entry(FakeRig),
    "triton-kubernetes": Entry(lambda: KubeRig(triton_bench())),
    "kuberay": Entry(lambda: KubeRig(ray_bench())),
    "triton": Entry(TritonRig, (pytest.mark.triton,), "triton_installation"),
    "ray": Entry(RayRig, (pytest.mark.ray, pytest.mark.timeout(180)), "ray_cluster"),
}
