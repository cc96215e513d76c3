"""From custom resources to the control plane and back, over real connections."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from federation.bridge.app import main
from federation.bridge.policy.custom import FINALIZER
from federation.contract.types import Scheduling
from federation.kube.errors import NotFound
from tests.federation.bridge.rig import CLUSTER, DEPLOYMENT, Rig, rig, until
from tests.federation.cli.test_real_control_plane import Shell, control_plane, use


@pytest.fixture
async def its(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as found:
        yield found


async def test_a_deployment_from_its_beginning_to_its_end(its: Rig) -> None:
    await its.prepare("m")
    async with its.bridge():
        await its.apply(DEPLOYMENT, "d", model="m", regions=["eu"])
        await its.told(DEPLOYMENT, "d", "Applied")
        assert its.deployments["d"].spec.regions == ("eu",)
        seen = its.seen(DEPLOYMENT, "d")
        assert seen is not None
        assert seen["metadata"]["finalizers"] == [FINALIZER]
        assert seen["status"]["version"] == 1
        assert its.condition(DEPLOYMENT, "d", "Ready") == ("False", "NotReady")
        await its.apply(DEPLOYMENT, "d", model="m", replicas=3)
        await until(lambda: its.deployments["d"].spec.replicas == 3, its.state)
        assert its.deployments["d"].spec.regions == ()
        await its.fed.put("Deployment", "d", {"model": "m", "replicas": 9})  # somebody meddles
        await until(lambda: its.deployments["d"].spec.replicas == 3, its.state)
        await its.delete(DEPLOYMENT, "d")
        await until(lambda: its.seen(DEPLOYMENT, "d") is None, its.state)
        assert its.deployments == {}


async def test_a_cluster_from_its_beginning_to_its_end(its: Rig) -> None:
    async with its.bridge():
        await its.apply(CLUSTER, "c", region="eu", scheduling="cordoned")
        await its.told(CLUSTER, "c", "Refused")  # there is no such region yet
        await its.prepare()
        await its.told(CLUSTER, "c", "Applied")
        assert its.condition(CLUSTER, "c", "Joined") == ("False", "NoAgent")
        assert its.clusters["c"].scheduling is Scheduling.CORDONED
        await its.apply(CLUSTER, "c", region="eu", labels={"tier": "gold"})
        await until(lambda: its.clusters["c"].spec.labels == {"tier": "gold"}, its.state)
        assert its.clusters["c"].scheduling is Scheduling.CORDONED
        await its.delete(CLUSTER, "c")
        await until(lambda: its.seen(CLUSTER, "c") is None, its.state)
        assert its.clusters == {}


async def test_what_somebody_else_made_is_left_alone_until_it_is_handed_over(its: Rig) -> None:
    await its.prepare("m")
    await its.fed.put("Deployment", "d", {"model": "m", "replicas": 7})
    async with its.bridge():
        await its.apply(DEPLOYMENT, "d", model="m")
        await its.told(DEPLOYMENT, "d", "NotOwned")
        assert its.deployments["d"].spec.replicas == 7
        await its.annotate(DEPLOYMENT, "d", adopt="true")
        await its.told(DEPLOYMENT, "d", "Applied")
        assert its.deployments["d"].spec.replicas == 1


async def test_an_api_server_that_is_away_costs_nothing_but_time(its: Rig) -> None:
    """1.5 s at a twentieth of all waits: 30 seconds."""
    await its.prepare("m", "n")
    async with its.bridge():
        await its.apply(DEPLOYMENT, "d", model="m")
        await its.told(DEPLOYMENT, "d", "Applied")
        await its.fake.stop()
        await its.fed.put("Deployment", "d", {"model": "m", "replicas": 9})
        await asyncio.sleep(1.5)
        assert its.deployments["d"].spec.replicas == 1  # still kept as it shall be
        kind = its.fake.kind(DEPLOYMENT.kind)
        seen = its.seen(DEPLOYMENT, "d")
        assert seen is not None
        its.fake.objects.put(kind, {**seen, "spec": {"model": "m", "replicas": 2}})
        its.fake.log.clear()
        await its.fake.start()
        await until(lambda: its.deployments["d"].spec.replicas == 2, its.state)
        await its.apply(DEPLOYMENT, "e", model="n")
        await its.told(DEPLOYMENT, "e", "Applied")


async def test_a_control_plane_that_is_away_is_told_and_nothing_is_lost(its: Rig) -> None:
    await its.prepare("m")
    async with its.bridge(endpoint="https://127.0.0.1:9"):
        await its.apply(DEPLOYMENT, "d", model="m")
        await its.told(DEPLOYMENT, "d", "ControlPlaneUnreachable")
        assert its.condition(DEPLOYMENT, "d", "Ready")[0] == "Unknown"
        writes = len(its.fake.requests("modeldeployments/status", "patch"))
        await asyncio.sleep(1.0)
        assert len(its.fake.requests("modeldeployments/status", "patch")) == writes
    async with its.bridge():
        await its.told(DEPLOYMENT, "d", "Applied")


async def test_a_deletion_while_no_bridge_runs_waits_for_one(its: Rig) -> None:
    await its.prepare("m")
    async with its.bridge():
        await its.apply(DEPLOYMENT, "d", model="m")
        await its.told(DEPLOYMENT, "d", "Applied")
    await its.delete(DEPLOYMENT, "d")
    assert its.seen(DEPLOYMENT, "d") is not None
    async with its.bridge():
        await until(lambda: its.seen(DEPLOYMENT, "d") is None, its.state)
    assert its.deployments == {}
    with pytest.raises(NotFound):
        await its.api.get(DEPLOYMENT, "default", "d")


async def test_two_bridges_do_no_harm(its: Rig) -> None:
    await its.prepare("m", "n")
    async with its.bridge(), its.bridge():
        await its.apply(DEPLOYMENT, "d", model="m")
        await its.apply(DEPLOYMENT, "e", model="n")
        for name in ("d", "e"):
            await its.told(DEPLOYMENT, name, "Applied")
        await its.apply(DEPLOYMENT, "d", model="m", replicas=2)
        await until(lambda: its.deployments["d"].spec.replicas == 2, its.state)
        await its.delete(DEPLOYMENT, "e")
        await until(lambda: its.seen(DEPLOYMENT, "e") is None, its.state)
    assert set(its.deployments) == {"d"}


async def test_as_processes(its: Rig, tmp_path: Path) -> None:
    """A control plane and a bridge as they are started, and the signal that ends the bridge."""
    shell, state = Shell(tmp_path), tmp_path / "other"
    with control_plane(state) as (address, _):
        use(shell, state, address)
        await asyncio.to_thread(shell, "region", "create", "eu", "--location", "53.3,-6.3")
        key = tmp_path / "bridge.key"
        words = ("key", "create", "gitops", "--role", "operator", "--token-file", str(key))
        await asyncio.to_thread(shell, *words)
        environ = {
            "PATH": os.environ["PATH"],
            "FED_ENDPOINT": f"https://{address}",
            "FED_TOKEN_FILE": str(key),
            "FED_CA_FILE": str(state / "ca.pem"),
            "FED_KUBECONFIG": str(tmp_path / "kubeconfig"),
            "FED_NAMESPACE": "default",
            "FED_ADMIN_LISTEN": "127.0.0.1:0",
            "FED_POLL_S": "1",
        }
        command = [sys.executable, "-m", "federation.bridge"]
        with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
            try:
                await its.apply(CLUSTER, "c", region="eu")
                await its.told(CLUSTER, "c", "Applied")
                assert '"c"' in await asyncio.to_thread(shell, "get", "cluster", "c", "-o", "json")
                await its.apply(DEPLOYMENT, "d", model="m")
                await its.told(DEPLOYMENT, "d", "NotAllowed")  # the key is for clusters alone
                await its.delete(CLUSTER, "c")
                await until(lambda: its.seen(CLUSTER, "c") is None, its.state)
            finally:
                process.send_signal(signal.SIGTERM)
                _, told = await asyncio.to_thread(process.communicate, timeout=20)
        assert process.returncode == 0, told
        assert "Traceback" not in told
        assert "fed_join_" not in told  # the join token of the registration is nobody's


def test_bad_settings_end_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--poll-s", "0"]) == 2
    assert "fed-bridge: --poll-s" in capsys.readouterr().err
