import json
import sys
from pathlib import Path

from federation.contract.types import EngineKind
from federation.demo import launch
from federation.demo.launch import Layout
from federation.demo.triton_install import TritonInstallation
from tests.federation.demo.fakes import small_plan

_LAYOUT = Layout(Path("/run/demo"))
_PLAN = small_plan()
_TRITON, _RAY = _PLAN.sites


def _flags(argv: tuple[str, ...]) -> dict[str, str]:
    return dict(w[2:].split("=", 1) for w in argv if w.startswith("--") and "=" in w)


def test_a_router_dials_each_site_through_its_lane() -> None:
    pop = _PLAN.pops[0]
    lanes = {_TRITON.name: 1001, _RAY.name: 1002}
    command = launch.router(_PLAN, _LAYOUT, pop, lanes)
    assert command.name == "router-eu"
    assert command.argv[:3] == (sys.executable, "-m", "router")
    assert "--connect-to=eu-west.demo.internal:7500=127.0.0.1:1001" in command.argv
    assert "--connect-to=us-east.demo.internal:7500=127.0.0.1:1002" in command.argv
    flags = _flags(command.argv)
    assert flags["location"] == "52.3676,4.9041"
    assert flags["token-file"] == "/run/demo/control-plane/router.token"


def test_an_agent_is_told_of_its_engine_only() -> None:
    triton = _flags(launch.agent(_PLAN, _LAYOUT, _TRITON).argv)
    ray = _flags(launch.agent(_PLAN, _LAYOUT, _RAY).argv)
    assert triton["engine"] == "triton"
    assert triton["triton-repository"] == "/run/demo/eu-west/repository"
    assert triton["engine-url"] == f"http://127.0.0.1:{_TRITON.engine_ports}"
    assert triton["advertise-url"] == "http://eu-west.demo.internal:7500"
    assert "ray-dashboard-url" not in triton
    assert ray["engine"] == "ray-serve"
    assert ray["ray-dashboard-url"] == f"http://127.0.0.1:{_RAY.engine_ports + 1}"
    assert "triton-repository" not in ray
    assert triton["join-token-file"] != ray["join-token-file"]


def test_the_control_plane_listens_where_agents_and_routers_look_for_it() -> None:
    control_plane = _flags(launch.control_plane(_PLAN, _LAYOUT).argv)
    agent = _flags(launch.agent(_PLAN, _LAYOUT, _TRITON).argv)
    assert control_plane["grpc-listen"] == agent["control-plane"]
    assert f"http://{control_plane['http-listen']}" == agent["control-plane-url"]


def test_triton_listens_on_the_ports_of_its_block() -> None:
    installation = TritonInstallation(root=Path("/cache"), libpython="/lib")
    flags = _flags(launch.triton(_LAYOUT, _TRITON, installation).argv)
    assert int(flags["http-port"]) == _TRITON.engine_http_port
    assert flags["model-repository"] == "/run/demo/eu-west/repository"


def test_declared_devices_are_plainly_called_simulated() -> None:
    assert _TRITON.engine is EngineKind.TRITON
    devices = json.loads(launch.inventory(_TRITON))["devices"]
    assert len(devices) == _TRITON.gpus == 2
    assert all("simulated" in device["product"] for device in devices)
    assert len({device["id"] for device in devices}) == 2
