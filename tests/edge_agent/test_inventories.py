"""Which inventories settings mean, and the look that operators take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.backends.base import Backend, EngineUnreachable
from edge_agent.engine_devices import EngineInventory
from edge_agent.inventories import Inventories, main, make_inventories, node_name, report
from edge_agent.inventory.amd import AmdInventory
from edge_agent.inventory.declared import DeclaredInventory
from edge_agent.inventory.exporter import ExporterInventory
from edge_agent.inventory.kubernetes import KubernetesInventory
from edge_agent.inventory.nvml import NvmlInventory
from edge_agent.settings import Settings
from federation.contract.capacity import Capacity, Device, DeviceUse, pools_of
from federation.contract.errors import Invalid
from federation.runtime.clock import ManualClock

DCGM = "http://127.0.0.1:9400/metrics"


class Ray:
    """A backend whose engine knows its devices."""

    def __init__(self) -> None:
        self.closed = False

    async def devices(self) -> tuple[Device, ...]:
        if self.closed:
            raise EngineUnreachable("closed")
        return (Device(id="ray-0", vendor="nvidia", product="GPU", memory_mib=0, source="ray"),)

    async def close(self) -> None:
        self.closed = True


def made(backend: Any = None, **values: Any) -> Inventories:
    settings = Settings(cluster="c", **values)
    return make_inventories(settings, backend, clock=ManualClock(), node="n")


def kinds(found: Inventories) -> tuple[list[type], list[type]]:
    return [type(i) for i in found.seeing], [type(i) for i in found.telling]


@pytest.fixture
def devices_file(tmp_path: Path) -> str:
    path = tmp_path / "devices.yaml"
    path.write_text("devices: [{product: L4, memory_mib: 23034, node: rack-3}]")
    return str(path)


DRIVERS = [NvmlInventory, AmdInventory]


def test_what_is_best_is_asked(devices_file: str) -> None:
    assert kinds(made()) == (DRIVERS, [])
    assert kinds(made(Ray())) == ([EngineInventory], [])
    assert kinds(made(Ray(), inventory_file=devices_file)) == ([DeclaredInventory], [])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", []),
        ("nvml", [NvmlInventory]),
        ("amd", [AmdInventory]),
        ("engine", [EngineInventory]),
        ("kubernetes", [KubernetesInventory]),
    ],
)
def test_what_is_named_is_asked(name: str, expected: list[type], devices_file: str) -> None:
    assert kinds(made(Ray(), inventory=name, inventory_file=devices_file)) == (expected, [])


def test_in_a_pod_or_with_a_kubeconfig_it_is_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds(made(kubeconfig="/some/file")) == ([KubernetesInventory], [])
    assert kinds(made(Ray(), kubeconfig="/some/file")) == ([EngineInventory], [])
    monkeypatch.setattr("edge_agent.inventories.in_pod", lambda environ: True)
    assert kinds(made()) == ([KubernetesInventory], [])
    assert kinds(made(inventory="nvml")) == ([NvmlInventory], [])


def test_exporters_add_devices_only_beside_what_names_them_alike(devices_file: str) -> None:
    urls = {"dcgm_url": (DCGM, DCGM), "triton_metrics_url": "http://127.0.0.1:8002/metrics"}
    exporters = [ExporterInventory] * 3
    assert kinds(made(**urls)) == ([*DRIVERS, *exporters], [])
    assert kinds(made(**urls, inventory="nvml")) == ([NvmlInventory, *exporters], [])
    assert kinds(made(Ray(), **urls)) == ([EngineInventory], exporters)
    assert kinds(made(**urls, inventory="amd")) == ([AmdInventory], exporters)
    assert kinds(made(**urls, inventory_file=devices_file)) == ([DeclaredInventory], exporters)
    assert kinds(made(**urls, inventory="none")) == ([], [])


def test_an_operators_names_of_metrics(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("metrics: [{name: busy, field: utilization}]")
    for name in ("auto", "dcgm", "dcgm-4.9", str(path)):
        assert len(made(dcgm_url=(DCGM,), dcgm_metrics=name).seeing) == 3
    with pytest.raises(Invalid, match="cannot read nonsense") as caught:
        made(dcgm_url=(DCGM,), dcgm_metrics="nonsense")
    assert "dcgm-4.9" in caught.value.hint


def test_an_engine_that_tells_no_devices_cannot_be_asked() -> None:
    with pytest.raises(Invalid, match="triton does not tell its devices"):
        made(object(), inventory="engine")


def test_a_pod_has_the_name_of_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "gpu-7")
    assert node_name() == "gpu-7"
    monkeypatch.delenv("NODE_NAME")
    assert node_name()


def no_backend(_: Settings) -> Backend:
    raise AssertionError("nobody needs an engine here")


def run(
    capsys: pytest.CaptureFixture[str],
    *argv: str,
    backend: Callable[[Settings], Any] = no_backend,
) -> list[str]:
    assert main(argv, prog="fed-edge-agent", make_backend=backend) == 0
    return capsys.readouterr().out.splitlines()


def test_the_look_prints_tables(devices_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, f"--inventory-file={devices_file}")
    assert lines[0].split()[:3] == ["NODE", "DEVICE", "PRODUCT"]
    assert lines[1].split()[:5] == ["rack-3", "declared-0", "L4", "22.5", "GiB"]
    assert lines[-1] == "1 GPU can be used."


def test_the_look_asks_an_engine_that_spans_machines(capsys: pytest.CaptureFixture[str]) -> None:
    ray = Ray()
    lines = run(capsys, "--engine=ray-serve", backend=lambda _: ray)
    assert "ray-0" in "\n".join(lines)
    assert ray.closed


def test_a_machine_without_gpus_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--inventory=none") == ["No GPU can be used."]


def test_the_report_tells_use_health_and_what_could_not_be_seen() -> None:
    devices = (
        Device(
            id="GPU-1",
            vendor="nvidia",
            product="H100",
            memory_mib=81559,
            source="nvml",
            node="n",
            use=DeviceUse(memory_mib=1024, utilization=0.37, temperature_c=41.0),
        ),
        Device(
            id="GPU-2\x1b[31m",
            vendor="nvidia",
            product="H100",
            memory_mib=81559,
            healthy=False,
            reason="the GPU is lost",
            source="nvml",
            node="n",
        ),
    )
    capacity = Capacity(devices=devices, pools=pools_of(devices), reason="dcgm is silent")
    lines = list(report(capacity))
    assert [part in lines[1] for part in ("79.6 GiB", "1.0 GiB", "37%", "41 C", "ok")] == [True] * 5
    assert "the GPU is lost" in lines[2]
    assert not any("\x1b" in line for line in lines)
    assert lines[-3:] == ["", "1 GPU can be used.", "Not all could be seen: dcgm is silent"]
