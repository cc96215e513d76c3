import os
import subprocess
import sys
from pathlib import Path

import pytest

from federation.demo.triton_install import (
    TritonInstallation,
    TritonPorts,
    TritonUnavailable,
    default_cache,
    ensure_triton,
)

HERE = TritonInstallation(root=Path("/cache/triton"), libpython="/python/lib")


def test_the_server_listens_on_the_loopback_only_and_loads_nothing_by_itself() -> None:
    command = HERE.command(Path("/models"), TritonPorts(http=1, grpc=2, metrics=3), name="eu")
    assert command[0] == "/cache/triton/server/pytriton/tritonserver/bin/tritonserver"
    for door, port in (("http", 1), ("grpc", 2), ("metrics", 3)):
        assert f"--{door}-address=127.0.0.1" in command
        assert f"--{door}-port={port}" in command
    assert {"--model-control-mode=explicit", "--strict-readiness=false", "--id=eu"} <= set(command)


def test_the_environment_leads_to_the_models_python() -> None:
    variables = HERE.environment({"PATH": "/bin", "PYTHONPATH": "/x", "HOME": "/h"})
    assert variables == {
        "HOME": "/h",
        "PATH": "/cache/triton/env/bin:/bin",
        "LD_LIBRARY_PATH": "/python/lib:/cache/triton/server/nvidia_pytriton.libs",
    }


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "inference-federation"


def test_another_platform_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(TritonUnavailable, match="darwin"):
        ensure_triton(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_fetch_that_fails_leaves_nothing_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable, value in (("PIP_NO_INDEX", "1"), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(variable, value)
    said: list[str] = []
    with pytest.raises(TritonUnavailable, match="nvidia-pytriton"):
        ensure_triton(tmp_path, say=said.append)
    assert said == ["fetching Triton 2.51.0 (nvidia-pytriton==0.7.0)"]
    assert [p.name for p in tmp_path.iterdir()] == [".triton.lock"]


@pytest.mark.triton
def test_the_models_environment_has_an_old_enough_numpy(
    triton_installation: TritonInstallation,
) -> None:
    done = subprocess.run(
        ["python3", "-c", "import numpy, onnxruntime; print(numpy.__version__)"],
        env=triton_installation.environment(os.environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("1.")
    assert ensure_triton() == triton_installation
