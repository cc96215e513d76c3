"""The whole agent over a real Triton: it is killed, its stub is killed, the agent is restarted."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.backends.fake import FakeEngine
from edge_agent.backends.triton import TritonBackend
from edge_agent.worker import Deadlines
from federation.contract.types import VersionState
from federation.demo.triton_install import TritonInstallation
from tests.edge_agent.agent_rig import AgentRig, until
from tests.edge_agent.package_server import PackageServer
from tests.engines.triton import TritonServer

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]

# Each process that loads the model leaves its id: that counts loads at the engine.
MODEL = b"""\
import os
class Model:
    def __init__(self, directory, parameters):
        with open(os.path.join(%r, "pids"), "a") as file: file.write("%%d\\n" %% os.getpid())
    def infer(self, inputs): return inputs
"""
PATIENT = Deadlines(drain_s=1.0, drain_least_s=0.05)


@pytest.fixture
def server(triton_installation: TritonInstallation, tmp_path: Path) -> TritonServer:
    return TritonServer(triton_installation, tmp_path / "triton")


@pytest.fixture
async def packages() -> AsyncIterator[PackageServer]:
    packages = PackageServer()
    await packages.start()
    yield packages
    await packages.stop()


def loads(folder: Path) -> list[int]:
    """The processes in which the model was loaded, in order."""
    return [int(line) for line in (folder / "pids").read_text().split()]


async def test_deaths_of_all_kinds(
    server: TritonServer, packages: PackageServer, tmp_path: Path
) -> None:
    digest = packages.add(tmp_path, "m", 1, {"model.py": MODEL % str(tmp_path)})
    server.start()

    async def new_agent() -> AgentRig:
        rig = AgentRig(
            FakeEngine(),
            packages,
            tmp_path / "state",
            backend=TritonBackend(server.url, server.repository),
            deadlines=PATIENT,
        )
        await rig.start()
        return rig

    async def warm(rig: AgentRig, after: int) -> None:
        await until(lambda: rig.warm(("m", 1)) and len(loads(tmp_path)) == after, 60)
        assert await rig.infer("m", 1) == 200

    rig = await new_agent()
    try:
        rig.assign(1, ("m", 1, digest))
        await until(lambda: rig.warm(("m", 1)), 60)
        await warm(rig, after=1)
        await rig.stop()  # the agent dies: nothing is loaded again
        rig = await new_agent()
        await warm(rig, after=1)
        os.kill(loads(tmp_path)[-1], signal.SIGKILL)  # the model's process dies: "ready" lies
        assert await rig.infer("m", 1) >= 500
        await warm(rig, after=2)
        server.kill()  # the engine dies: it comes back empty
        await until(lambda: rig.state("m", 1) is not VersionState.WARMED, 20)
        server.start()
        await warm(rig, after=3)
        rig.assign(2)
        await until(lambda: rig.state("m", 1) is VersionState.CACHED, 20)
        assert await rig.backend.loaded() == ()
    finally:
        await rig.stop()
        server.kill()
