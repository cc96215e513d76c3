import json
import sys
from pathlib import Path

import pytest

from federation.contract.types import EngineKind
from federation.demo import launch
from federation.demo.launch import Layout
from federation.demo.triton_install import TritonInstallation
from tests.federation.demo.fakes import small_plan
from tests.pki import make_authority, trust_of

_PLAN = small_plan()
_TRITON, _RAY = _PLAN.sites
_LANES = {pop.name: 2001 + index for index, pop in enumerate(_PLAN.pops)}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A run directory in which the control plane has written its roots."""
    layout = Layout(tmp_path)
    layout.ca_file.parent.mkdir()
    layout.ca_file.write_text(trust_of(make_authority(tmp_path)).bundle)
    return layout


def _flags(argv: tuple[str, ...]) -> dict[str, str]:
    return dict(w[2:].split("=", 1) for w in argv if w.startswith("--") and "=" in w)


def test_a_router_dials_each_site_that_it_dials_through_its_lane(layout: Layout) -> None:
    pop = _PLAN.pops[0]
    lanes = {_TRITON.name: 1001, _RAY.name: 1002}
    command = launch.router(_PLAN, layout, pop, lanes)
    assert command.name == "router-eu"
    assert command.argv[:3] == (sys.executable, "-m", "router")
    assert "--connect-to=eu-west.demo.internal:7500=127.0.0.1:1001" in command.argv
    assert not any("us-east" in word for word in command.argv)  # behind NAT: it dials
    flags = _flags(command.argv)
    assert flags["location"] == "52.3676,4.9041"
    assert flags["join-token-file"] == str(layout.router_join_token(pop))
    assert flags["ca-pin"] == next(iter(make_authority(layout.root).roots.values())).pin


def test_an_agent_behind_nat_has_no_door_and_dials_each_router_through_its_lane(
    layout: Layout,
) -> None:
    argv = launch.agent(_PLAN, layout, _RAY, _LANES).argv
    flags = _flags(argv)
    assert flags["connectivity"] == "reverse"
    assert not {"listen", "advertise-url"} & set(flags)
    assert "--connect-to=router-us.demo.internal:7402=127.0.0.1:2002" in argv


def test_an_agent_is_told_of_its_engine_only(layout: Layout) -> None:
    triton = _flags(launch.agent(_PLAN, layout, _TRITON, _LANES).argv)
    ray = _flags(launch.agent(_PLAN, layout, _RAY, _LANES).argv)
    assert triton["engine"] == "triton"
    assert triton["triton-repository"] == str(layout.root / "eu-west" / "repository")
    assert triton["engine-url"] == f"http://127.0.0.1:{_TRITON.engine_ports}"
    assert triton["advertise-url"] == "https://eu-west.demo.internal:7500"
    assert "ray-dashboard-url" not in triton
    assert ray["engine"] == "ray-serve"
    assert ray["ray-dashboard-url"] == f"http://127.0.0.1:{_RAY.engine_ports + 1}"
    assert "triton-repository" not in ray
    assert triton["join-token-file"] != ray["join-token-file"]


def test_the_control_plane_listens_where_agents_and_routers_look_for_it(layout: Layout) -> None:
    control_plane = _flags(launch.control_plane(_PLAN, layout).argv)
    agent = _flags(launch.agent(_PLAN, layout, _TRITON, _LANES).argv)
    assert control_plane["grpc-listen"] == agent["control-plane"]
    assert f"https://{control_plane['http-listen']}" == agent["control-plane-url"]


def test_triton_listens_on_the_ports_of_its_block(layout: Layout) -> None:
    installation = TritonInstallation(root=Path("/cache"), libpython="/lib")
    flags = _flags(launch.triton(layout, _TRITON, installation).argv)
    assert int(flags["http-port"]) == _TRITON.engine_http_port
    assert flags["model-repository"] == str(layout.root / "eu-west" / "repository")


def test_declared_devices_are_plainly_called_simulated() -> None:
    assert _TRITON.engine is EngineKind.TRITON
    devices = json.loads(launch.inventory(_TRITON))["devices"]
    assert len(devices) == _TRITON.gpus == 2
    assert all("simulated" in device["product"] for device in devices)
    assert len({device["id"] for device in devices}) == 2
