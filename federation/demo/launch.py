"""The command lines of the federation's three roles and of Triton, as the demo starts them.

Input: the plan, the run directory, the ports of the lanes. Output: Commands. Only public flags are
used: whoever copies a line from the log of the demo can start the same process by hand.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from federation.contract.types import Connectivity, EngineKind
from federation.demo.plan import Plan, Pop, Site
from federation.demo.processes import Command
from federation.demo.ray_cluster import RayCluster
from federation.demo.triton_install import TritonInstallation, TritonPorts
from federation.trust.pins import pin_of

CONTROL_PLANE = "control-plane"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each file of a run lies."""

    root: Path

    @property
    def control_plane_state(self) -> Path:
        """Return the state directory of the control plane; it writes its admin token there."""
        return self.root / "control-plane"

    @property
    def admin_token(self) -> Path:
        """Return the file with the operator's token."""
        return self.control_plane_state / "admin.token"

    @property
    def ca_file(self) -> Path:
        """Return the file with the roots of trust, which the control plane writes."""
        return self.control_plane_state / "ca.pem"

    @property
    def inference_key(self) -> Path:
        """Return the file with the demo's own key for inference."""
        return self.root / "inference.key"

    @property
    def socket(self) -> Path:
        """Return the Unix socket on which the demo takes commands."""
        return self.root / "demo.sock"

    @property
    def fed_config(self) -> Path:
        """Return the file of contexts that leads `fed` to this demo."""
        return self.root / "fed.yaml"

    def site(self, site: Site) -> Path:
        """Return the directory of one site."""
        return self.root / site.name

    def join_token(self, site: Site) -> Path:
        """Return the file with the one-time token of a site's agent."""
        return self.site(site) / "join.token"

    def router_state(self, pop: Pop) -> Path:
        """Return the state directory of a router."""
        return self.root / pop.router_name

    def router_join_token(self, pop: Pop) -> Path:
        """Return the file with the one-time token of a router."""
        return self.root / f"{pop.router_name}.token"

    def triton_repository(self, site: Site) -> Path:
        """Return the folder that the site's Triton reads and its agent writes."""
        return self.site(site) / "repository"

    def ray_token(self, site: Site) -> Path:
        """Return the file with the token of the site's Ray."""
        return self.site(site) / "ray.token"

    def ray_directory(self, site: Site) -> Path:
        """Return Ray's own directory, near the root: its socket names are long already."""
        return self.root / f"r{site.engine_ports}"


def control_plane(plan: Plan, layout: Layout) -> Command:
    """Return the command of the control plane."""
    return _role(
        CONTROL_PLANE,
        "federation",
        {
            "state-dir": layout.control_plane_state,
            "http-listen": f"127.0.0.1:{plan.http_port}",
            "grpc-listen": f"127.0.0.1:{plan.grpc_port}",
        },
    )


def router(plan: Plan, layout: Layout, pop: Pop, lanes: Mapping[str, int]) -> Command:
    """Return the command of a router; `lanes` holds the port of its lane to each site."""
    location = f"{pop.location.latitude},{pop.location.longitude}"
    dialled = [
        f"--connect-to={site.advertised}=127.0.0.1:{lanes[site.name]}"
        for site in plan.sites
        if site.connectivity is Connectivity.DIAL
    ]
    return _role(
        pop.router_name,
        "router",
        {
            "name": pop.router_name,
            "control-plane": f"127.0.0.1:{plan.grpc_port}",
            "control-plane-url": plan.control_plane_url,
            "join-token-file": layout.router_join_token(pop),
            "ca-pin": ca_pin(layout),
            "state-dir": layout.router_state(pop),
            "listen": f"127.0.0.1:{pop.port}",
            "admin-listen": f"127.0.0.1:{pop.admin_port}",
            "reverse-listen": f"127.0.0.1:{pop.reverse_port}",
            "reverse-advertise": pop.reverse_advertised,
            "advertise-url": pop.url,
            "location": location,
            # So that the load's clients may say where they come from.
            "trusted-proxies": "127.0.0.0/8",
        },
        dialled,
    )


def agent(plan: Plan, layout: Layout, site: Site, lanes: Mapping[str, int]) -> Command:
    """Return the command of a site's edge agent; `lanes` holds the port of its lane to each pop."""
    if site.connectivity is Connectivity.REVERSE:
        door: dict[str, object] = {"connectivity": "reverse"}
        dialled = [
            f"--connect-to={pop.reverse_advertised}=127.0.0.1:{lanes[pop.name]}"
            for pop in plan.pops
        ]
    else:
        door = {
            "listen": f"127.0.0.1:{site.agent_port}",
            "advertise-url": f"https://{site.advertised}",
        }
        dialled = []
    engine: dict[EngineKind, dict[str, object]] = {
        EngineKind.TRITON: {"triton-repository": layout.triton_repository(site)},
        EngineKind.RAY_SERVE: {
            "ray-dashboard-url": ray_cluster(layout, site).dashboard_url,
            "ray-token-file": layout.ray_token(site),
        },
    }
    return _role(
        site.agent_name,
        "edge_agent",
        {
            "cluster": site.name,
            "control-plane": f"127.0.0.1:{plan.grpc_port}",
            "control-plane-url": plan.control_plane_url,
            "join-token-file": layout.join_token(site),
            "ca-pin": ca_pin(layout),
            "state-dir": layout.site(site) / "agent",
            **door,
            "admin-listen": f"127.0.0.1:{site.agent_admin_port}",
            "engine": site.engine.value,
            "engine-url": f"http://127.0.0.1:{site.engine_http_port}",
            "inventory-file": layout.site(site) / "inventory.json",
            "calibrate-s": 1,  # all sites share one machine
            **engine[site.engine],
        },
        dialled,
    )


def ca_pin(layout: Layout) -> str:
    """Return the pin of the control plane's root, as `fed cluster register` prints it."""
    return pin_of(layout.ca_file.read_text(encoding="ascii"))


def triton(layout: Layout, site: Site, installation: TritonInstallation) -> Command:
    """Return the command of a site's Triton."""
    first = site.engine_ports
    ports = TritonPorts(http=first, grpc=first + 1, metrics=first + 2)
    argv = installation.command(layout.triton_repository(site), ports, name=site.name)
    # One thread a model: sixteen models that each take all cores for a small product would spin.
    environ = {**installation.environment(os.environ), "OMP_NUM_THREADS": "1"}
    return Command(name=site.engine_name, argv=tuple(argv), environ=environ)


def ray_cluster(layout: Layout, site: Site, token: str = "") -> RayCluster:
    """Return the Ray cluster of a site."""
    return RayCluster(site, layout.ray_directory(site), token)


def inventory(site: Site) -> bytes:
    """Return the inventory file of a site: devices that are declared, since there are none."""
    devices = [
        {
            "id": f"{site.name}-gpu-{index}",
            "vendor": "NVIDIA",
            "product": site.product,
            "memory_mib": site.memory_mib,
        }
        for index in range(site.gpus)
    ]
    return json.dumps({"devices": devices}, indent=1).encode()


def _role(
    name: str, module: str, flags: Mapping[str, object], more: list[str] | None = None
) -> Command:
    argv = [sys.executable, "-m", module, *(f"--{flag}={value}" for flag, value in flags.items())]
    return Command(name=name, argv=(*argv, *(more or [])))
