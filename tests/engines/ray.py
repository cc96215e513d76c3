"""A real Ray cluster for tests: the fixture `ray_cluster`, one per test session.

A pytest plugin, see tests/conftest.py. It listens on the loopback only and has a token of its own;
it is ended by its process group, never by `ray stop`, which would end every Ray of the machine.
"""

import json
import os
import secrets
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.engines.ports import free_block
from tests.engines.process import EngineProcess, log_tail, refuse_or_skip

GPUS = 2
_PORTS = 60
_LEAN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "token",
    # Any other value makes Ray listen on all addresses of the machine.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


class RayCluster:
    """One cluster of one node."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(16)
        self.archives = folder / "archives"
        self._log = folder / "ray.log"
        # Unix sockets live below it, and their paths must stay short.
        self._session = Path(tempfile.mkdtemp(prefix="r-"))
        self._process: EngineProcess | None = None
        self._first_port = 0

    @property
    def dashboard_url(self) -> str:
        """The base URL of the REST API."""
        return f"http://127.0.0.1:{self._first_port + 1}"

    @property
    def serve_url(self) -> str:
        """The base URL of Serve's proxy, once something is deployed."""
        return f"http://127.0.0.1:{self._first_port + 11}"

    def start(self) -> None:
        """Start and wait for the REST API; after kill(), on the same ports."""
        for _ in range(2):
            self._first_port = self._first_port or free_block(_PORTS)
            self._process = EngineProcess(self._command(), self._environment(), self._log)
            if self._process.wait_until(self._answers, limit_s=90):
                return
            self._process.kill()
            self._first_port = 0
        raise RuntimeError(f"Ray did not start:\n{log_tail(self._log)}")

    def kill(self) -> None:
        """End all of its processes at once."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """End it and remove its files."""
        self.kill()
        shutil.rmtree(self._session, ignore_errors=True)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Ask the REST API directly, as an operator would."""
        request = urllib.request.Request(
            self.dashboard_url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
        return json.loads(text) if text else None

    def _answers(self) -> bool:
        try:
            self.call("GET", "/api/serve/applications/")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def _environment(self) -> dict[str, str]:
        first = self._first_port
        ports = {
            "AUTOSCALER_METRIC_PORT": str(first + 9),
            "DASHBOARD_METRIC_PORT": str(first + 10),
        }
        return {**os.environ, **_LEAN, **ports, "RAY_AUTH_TOKEN": self.token}

    def _command(self) -> list[str]:
        first = self._first_port
        ports = {
            "port": 0,
            "dashboard-port": 1,
            "dashboard-agent-listen-port": 2,
            "dashboard-agent-grpc-port": 3,
            "runtime-env-agent-port": 4,
            "metrics-export-port": 5,
            "node-manager-port": 6,
            "object-manager-port": 7,
            "ray-client-server-port": 8,
            "min-worker-port": 20,
            "max-worker-port": _PORTS - 1,
        }
        return [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
            "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1",
            *(f"--{name}={first + offset}" for name, offset in ports.items()),
            f"--temp-dir={self._session}",
            "--num-cpus=4",
            f"--num-gpus={GPUS}",
            "--object-store-memory=80000000",
            "--include-dashboard=true",
            "--include-log-monitor=false",
            "--disable-usage-stats",
        ]


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A running cluster that the whole session shares: do not break it."""
    if find_spec("ray") is None:
        refuse_or_skip("Ray is not installed")
    cluster = RayCluster(tmp_path_factory.mktemp("ray"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
