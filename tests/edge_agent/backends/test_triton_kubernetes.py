"""What a version's Triton finds on the volume, and that a real one takes our arguments."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.backends.base import StagedVersion
from edge_agent.backends.triton_kubernetes import TritonFlavour
from edge_agent.policy.kube.rollouts import pods_failure
from edge_agent.policy.kube.triton_manifests import deployment
from edge_agent.policy.kube.workloads import MODELS_DIR, Placing
from federation.demo.triton_install import TritonInstallation
from tests.contract.backends import ECHO, stage
from tests.edge_agent.policy.kube.engines import SHAPE, WORKLOAD
from tests.engines.ports import free_block

LOG_KEPT = 2048  # bytes that the kubelet keeps of a log as a container's last words


def staged(folder: Path, code: str = ECHO) -> StagedVersion:
    return stage(folder / "packages", "echo", 1, {"model.py": code})


def test_the_folder_is_written_once_and_removed_by_name(tmp_path: Path) -> None:
    flavour, folder = TritonFlavour(), tmp_path / "m-echo-1"
    flavour.write(folder, staged(tmp_path))
    config = folder / "echo--v1" / "config.pbtxt"
    assert "count: 1" in config.read_text()
    before = config.stat().st_mtime_ns
    flavour.write(folder, replace(staged(tmp_path), replicas=4))
    assert config.stat().st_mtime_ns == before
    assert list(flavour.remains(tmp_path, "echo--v1")) == [folder / "echo--v1"]
    assert list(flavour.remains(tmp_path, "echo--v11")) == []


def test_ready_pods_are_the_targets_of_the_warm_up() -> None:
    def pod(address: str, ready: str) -> dict[str, object]:
        conditions = [{"type": "Ready", "status": ready}]
        return {"status": {"podIP": address, "conditions": conditions}}

    pods = [pod("10.0.0.1", "True"), pod("10.0.0.2", "False"), pod("", "True")]
    assert TritonFlavour().targets(pods, "service") == ["10.0.0.1"]


@pytest.mark.triton
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('on purpose')", "RuntimeError: on purpose"),
        (ECHO.replace("pass", "raise ValueError('no weights')"), "ValueError: no weights"),
    ],
)
def test_a_real_triton_ends_with_words_that_the_kubelet_keeps(
    triton_installation: TritonInstallation, tmp_path: Path, code: str, words: str
) -> None:
    result = subprocess.run(
        command(triton_installation, tmp_path, staged(tmp_path, code)),
        env=triton_installation.environment(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=45,
        check=False,
    )
    assert result.returncode == 1
    message = result.stdout[-LOG_KEPT:].decode(errors="replace")
    ended = {"exitCode": 1, "message": message}
    container = {
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    pod = {"metadata": {"name": "p"}, "status": {"containerStatuses": [container]}}
    assert pods_failure([pod]) == f"the engine ends again and again: {words} (status 1) (pod p)"


def command(installation: TritonInstallation, folder: Path, version: StagedVersion) -> list[str]:
    """The command of our manifest, with this machine's paths and free ports."""
    TritonFlavour().write(folder / "models", version)
    pod = deployment(WORKLOAD, SHAPE, Placing())["spec"]["template"]["spec"]
    _, *args = pod["containers"][0]["args"]
    home = installation.root / "server" / "pytriton" / "tritonserver"
    port = free_block(3)
    ports = zip(("http", "grpc", "metrics"), range(port, port + 3), strict=True)
    return [
        str(home / "bin" / "tritonserver"),
        *(arg.replace(MODELS_DIR, str(folder / "models")) for arg in args),
        f"--backend-directory={home / 'backends'}",
        *(f"--{door}-port={number}" for door, number in ports),
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
    ]
