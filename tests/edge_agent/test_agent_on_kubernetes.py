"""The whole agent over engines on Kubernetes: it restarts, the API server dies, then the power."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from edge_agent.backends.fake import FakeEngine
from edge_agent.worker import Deadlines
from federation.contract.types import VersionState
from tests.contract.backends import ECHO
from tests.contract.kube_backends import KubeBench, ray_bench, triton_bench
from tests.edge_agent.agent_rig import QUICK, AgentRig, until
from tests.edge_agent.package_server import PackageServer

PATIENT = Deadlines(drain_s=1.0, drain_least_s=0.05)


@pytest.fixture
async def packages() -> AsyncIterator[PackageServer]:
    packages = PackageServer()
    await packages.start()
    yield packages
    await packages.stop()


@pytest.mark.parametrize("make", [triton_bench, ray_bench], ids=["triton", "ray"])
async def test_deaths_of_all_kinds(
    packages: PackageServer, tmp_path: Path, make: Callable[[], KubeBench]
) -> None:
    bench = make()
    (tmp_path / "cluster").mkdir()
    await bench.start(tmp_path / "cluster")
    digests = [packages.add(tmp_path, "m", n, {"model.py": ECHO.encode()}) for n in (1, 2)]
    one, two = (("m", n, digest) for n, digest in enumerate(digests, 1))

    async def new_agent() -> AgentRig:
        rig = AgentRig(
            FakeEngine(), packages, tmp_path / "state", backend=bench.backend(), deadlines=PATIENT
        )
        await rig.start()
        return rig

    async def serves(rig: AgentRig) -> None:
        await until(lambda: rig.warm(("m", 1)))
        assert await rig.infer("m", 1) == 200

    rig = await new_agent()
    try:
        rig.assign(1, one)
        await serves(rig)
        await rig.stop()
        rig = await new_agent()  # finds what runs, and does not roll it out again
        await serves(rig)
        assert len(bench.nodes.rollouts) == 1
        await bench.api.stop()  # nothing can be changed, but all is served
        await asyncio.sleep(2 * QUICK.engine_lost_s)
        assert rig.state("m", 1) is VersionState.WARMED
        assert await rig.infer("m", 1) == 200
        await bench.nodes.stop()
        await until(lambda: rig.state("m", 1) is not VersionState.WARMED)
        await bench.nodes.restart()
        await bench.api.start()
        await serves(rig)
        rig.assign(2, one, two)
        await until(lambda: rig.warm(("m", 1), ("m", 2)))
        assert await rig.infer("m", 2) == 200
        rig.assign(3)
        await until(lambda: rig.state("m", 2) is VersionState.CACHED)
        await until(lambda: rig.state("m", 1) is VersionState.CACHED)
        assert bench.nodes.all("Pod") == []
    finally:
        await rig.stop()
        await bench.stop()
