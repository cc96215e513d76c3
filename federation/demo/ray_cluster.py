"""A real Ray cluster on the loopback: one head node with Serve's REST API, for one site.

Input: a site of the plan, the run directory and the cluster's token. Output: the command that
starts it and the addresses that its agent needs. Ray's processes stay in the group of the first,
so that the demo stops exactly this cluster; `ray stop` would end every Ray of the machine.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from federation.demo.plan import Site
from federation.demo.processes import Command

_LEAN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # Ray's default of 15 would starve its replicas beside four engines that are not nice.
    "RAY_worker_niceness": "0",
    # Several replicas share few cores: without this each would take them all.
    "OMP_NUM_THREADS": "1",
    # Ray's name for "listen on 127.0.0.1 only", on Linux too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
# Offsets from the first port of the cluster's block.
_DASHBOARD = 1
_FLAGS = {
    "port": 0,
    "dashboard-port": _DASHBOARD,
    "dashboard-agent-listen-port": 2,
    "dashboard-agent-grpc-port": 3,
    "runtime-env-agent-port": 4,
    "metrics-export-port": 5,
    "node-manager-port": 6,
    "object-manager-port": 7,
    "ray-client-server-port": 8,
    "min-worker-port": 20,
    "max-worker-port": 99,
}
_CPUS = 8  # logical: how many replicas fit, not how much they compute


@dataclass(frozen=True, slots=True)
class RayCluster:
    """The cluster of one site. `directory` must be short: it is part of Unix socket names."""

    site: Site
    directory: Path
    token: str

    @property
    def dashboard_url(self) -> str:
        """Return where the REST API answers."""
        return f"http://127.0.0.1:{self.site.engine_ports + _DASHBOARD}"

    def command(self) -> Command:
        """Return how to start it; it is always ended by SIGKILL, it has nothing to save."""
        first = self.site.engine_ports
        environ = {
            **_LEAN,
            # A mode of its own: unset, it depends on what other Rays did on this machine.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "AUTOSCALER_METRIC_PORT": str(first + 9),
            "DASHBOARD_METRIC_PORT": str(first + 10),
        }
        argv = (
            str(Path(sys.executable).with_name("ray")),
            *("start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"),
            *("--include-dashboard=true", "--include-log-monitor=false"),
            *(f"--{flag}={first + offset}" for flag, offset in _FLAGS.items()),
            f"--temp-dir={self.directory}",
            f"--num-cpus={_CPUS}",
            f"--num-gpus={self.site.gpus}",
            "--object-store-memory=80000000",
        )
        return Command(name=self.site.engine_name, argv=argv, environ=environ, grace_s=0)
