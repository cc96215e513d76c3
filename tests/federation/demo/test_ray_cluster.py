from pathlib import Path

from federation.demo.plan import RAY_PORTS
from federation.demo.ray_cluster import RayCluster
from tests.federation.demo.fakes import small_plan

_SITE = small_plan(triton=0).sites[0]
_CLUSTER = RayCluster(_SITE, Path("/tmp/r"), "secret")


def test_every_port_lies_in_the_block_of_the_site_and_none_twice() -> None:
    command = _CLUSTER.command()
    flags = dict(w[2:].split("=", 1) for w in command.argv if w.startswith("--") and "=" in w)
    ports = [int(value) for name, value in flags.items() if name.endswith("port")]
    ports += [int(v) for k, v in command.environ.items() if k.endswith("_METRIC_PORT")]
    ports.append(_SITE.engine_http_port)
    block = range(_SITE.engine_ports, _SITE.engine_ports + RAY_PORTS)
    assert len(ports) == len(set(ports)) == 14
    assert all(port in block for port in ports)
    assert _CLUSTER.dashboard_url == f"http://127.0.0.1:{flags['dashboard-port']}"


def test_nothing_is_open_to_the_outside_and_the_token_is_no_argument() -> None:
    command = _CLUSTER.command()
    assert "--node-ip-address=127.0.0.1" in command.argv
    assert "--dashboard-host=127.0.0.1" in command.argv
    assert command.environ["RAY_AUTH_MODE"] == "token"
    assert command.environ["RAY_AUTH_TOKEN"] == "secret"
    assert not any("secret" in word for word in command.argv)


def test_it_has_the_declared_devices_and_ends_by_sigkill() -> None:
    command = _CLUSTER.command()
    assert f"--num-gpus={_SITE.gpus}" in command.argv
    assert command.grace_s == 0
